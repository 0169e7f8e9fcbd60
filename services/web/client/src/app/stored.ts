/** A stored document as lists show it; its JSON is parsed only when it is shown. */
import { parseObject } from './filter';

export interface StoredDocument {
  readonly id: string;
  /** A JSON object. */
  readonly data: string;
}

export interface Shown {
  readonly text: string;
  readonly label: string;
  readonly confidence: number | undefined;
}

const seen = new WeakMap<StoredDocument, Shown>();

export function shown(document: StoredDocument): Shown {
  const known = seen.get(document);
  if (known) return known;
  const fields = parseObject(document.data) ?? {};
  const [text, label, confidence] = [fields['text'], fields['label'], fields['confidence']];
  const view = {
    text: typeof text === 'string' && text ? text : document.data,
    label: typeof label === 'string' ? label : '',
    confidence: typeof confidence === 'number' ? confidence : undefined,
  };
  seen.set(document, view);
  return view;
}
