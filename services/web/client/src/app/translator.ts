/** Texts, numbers and percentages in the selected language. */
import { Injectable, effect, signal } from '@angular/core';
import { dictionaries, fill, languages, pickLanguage, type Key, type Language } from './dictionary';
import { load, save } from './storage';

@Injectable({ providedIn: 'root' })
export class Translator {
  readonly language = signal<Language>(initialLanguage());

  constructor() {
    effect(() => (document.documentElement.lang = this.language()));
  }

  choose(language: Language): void {
    this.language.set(language);
    save('language', language);
  }

  readonly t = (key: Key, values: Record<string, string | number> = {}): string =>
    fill(dictionaries[this.language()][key], values);

  readonly number = (value: number, digits = 0): string =>
    new Intl.NumberFormat(this.language(), { maximumFractionDigits: digits }).format(value);

  readonly percent = (share: number): string =>
    new Intl.NumberFormat(this.language(), { style: 'percent', maximumFractionDigits: 1 }).format(
      share,
    );

  /** A duration in one unit, such as "5 min". */
  readonly unit = (value: number, unit: 'minute'): string =>
    new Intl.NumberFormat(this.language(), { style: 'unit', unit, unitDisplay: 'short' }).format(
      value,
    );

  /** The name of a service in this language, or its own name if there is none. */
  readonly service = (name: string): string =>
    name in dictionaries.en ? this.t(name as Key) : name;
}

function initialLanguage(): Language {
  const remembered = languages.find((language) => language === load('language'));
  return remembered ?? pickLanguage(navigator.languages);
}
