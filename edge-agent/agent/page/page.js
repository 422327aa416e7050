// Asks for the page's content again while it is looked at. Parts that have not changed stay, so that what is marked or
// open in them stays too.
'use strict';

const PERIOD_MS = 2000;
const FOCUSABLE = 'a, summary, select, button, input, [tabindex]';
const line = document.getElementById('line');
const main = document.querySelector('main');
let timer = 0;
let asked = false;
let last = new Map();

function tell(text, gone) {
  if (line.textContent !== text) line.textContent = text;
  line.classList.toggle('gone', gone);
}

function parts(root) {
  return new Map([...root.children].map((part) => [part.id, part.innerHTML]));
}

function renew(text) {
  const next = new DOMParser().parseFromString(text, 'text/html').body;
  const fresh = parts(next);
  const same = [...main.children].map((part) => part.id).join() === [...fresh.keys()].join();
  if (!same) {
    main.replaceChildren(...next.children);
  } else {
    for (const part of main.children) {
      const focus = part.contains(document.activeElement) ? document.activeElement : null;
      if (last.get(part.id) === fresh.get(part.id)) continue;
      // A list that is open would be closed under the finger; it is renewed when it is left.
      if (focus instanceof HTMLSelectElement) {
        fresh.set(part.id, last.get(part.id));
        continue;
      }
      const open = new Set([...part.querySelectorAll('details[open]')].map((details) => details.id));
      const at = focus ? [...part.querySelectorAll(FOCUSABLE)].indexOf(focus) : -1;
      part.innerHTML = fresh.get(part.id);
      for (const details of part.querySelectorAll('details')) details.open = open.has(details.id);
      if (at >= 0) part.querySelectorAll(FOCUSABLE)[at]?.focus({ preventScroll: true });
    }
  }
  last = fresh;
}

async function ask() {
  clearTimeout(timer);
  if (asked || document.hidden) return;
  asked = true;
  try {
    const answer = await fetch('/view' + location.search, { cache: 'no-store', signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(String(answer.status));
    renew(await answer.text());
    tell('live', false);
  } catch {
    tell('the agent does not answer: what is shown is old', true);
  }
  asked = false;
  timer = setTimeout(ask, PERIOD_MS);
}

document.addEventListener('visibilitychange', ask);
document.addEventListener('change', (event) => {
  if (event.target.id === 'level') event.target.form.requestSubmit();
});
ask();
