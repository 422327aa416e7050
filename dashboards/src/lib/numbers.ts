// Whether numbers that somebody types are those that are sent: a browser has doubles, and others than these become one near by. Pure.

/** Texts of JSON, and its numbers. */
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
/** A longer exponent is beyond all doubles. */
const EXPONENT_DIGITS_MAX = 6;

/** Sign, digits and power of ten, so that two ways to write a number are the same; null for what is beyond all doubles. */
function decimal(text: string): string | null {
  const [, sign = '', whole = '', part = '', power = '0'] = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text) ?? [];
  const digits = (whole + part).replace(/^0+/, '');
  const short = digits.replace(/0+$/, '');
  if (short === '') return '0';
  if (power.length > EXPONENT_DIGITS_MAX) return null;
  return `${sign}${short}e${Number(power) - part.length + digits.length - short.length}`;
}

/** The first number of a text of JSON that would be sent as another one, with that one; null where none is. */
export function changedNumber(json: string): { typed: string; sent: string } | null {
  for (const [token] of json.matchAll(TOKENS)) {
    if (token.startsWith('"')) continue;
    const sent = Number(token);
    const wanted = decimal(token);
    if (!Number.isFinite(sent) || wanted === null || decimal(String(sent)) !== wanted) return { typed: token, sent: String(sent) };
  }
  return null;
}
