/** How the figures of a way to the hub are written. */

/** Milliseconds, with a decimal where they are few. */
export function ms(n: number): string {
  return `${n < 10 && !Number.isInteger(n) ? n.toFixed(1) : Math.round(n)} ms`;
}

/** A share from 0 to 1. */
export function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

/** A part of a whole; nothing is said of a whole that is not known. */
export function share(part: number, whole: number): string {
  return whole > 0 ? percent(part / whole) : '–';
}
