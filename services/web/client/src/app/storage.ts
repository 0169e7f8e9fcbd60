/** Keeps the user's selections in the browser's local storage, if that is available. */

export function load(key: string): string | null {
  try {
    return localStorage.getItem(`pspd.${key}`);
  } catch {
    return null;
  }
}

export function save(key: string, value: string): void {
  try {
    localStorage.setItem(`pspd.${key}`, value);
  } catch {
    // Storage is disabled (private mode, policy): the selection lasts until the page is closed.
  }
}
