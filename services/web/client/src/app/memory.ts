/** The browser's memory of this page's choices; a browser that refuses storage just forgets. */

export function recall(key: string): string | null {
  try {
    return localStorage.getItem(`pspd.${key}`);
  } catch {
    return null;
  }
}

export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(`pspd.${key}`, value);
  } catch {
    // Storage is off (private mode, policy): the choice lives as long as the page.
  }
}
