// Settings of this browser, kept from visit to visit.

/** A setting of an earlier visit; a browser may refuse to keep any. */
export function kept<T extends string>(key: string, allowed: readonly T[]): T | null {
  try {
    return allowed.find((one) => one === localStorage.getItem(key)) ?? null;
  } catch {
    return null;
  }
}

export function keep(key: string, setting: string): void {
  try {
    localStorage.setItem(key, setting);
  } catch {
    // It holds for this visit.
  }
}
