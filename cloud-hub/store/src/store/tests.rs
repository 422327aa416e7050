//! The open store under load, on bad disks and with strange readings.

mod agreement;
mod backpressure;
mod cold;
mod compact;
mod concurrency;
mod crash;
mod damage;
mod export;
mod groups;
mod keeps;
mod letters;
mod pages;
mod rename;
mod reopen;
mod restamps;
mod retention;
mod revised;
mod rig;
mod tail;
mod tiers;
mod values;
mod verify;
