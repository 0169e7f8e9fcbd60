/** Stored documents, and their previews in lists; JSON is parsed when a preview is first shown. */
import { parseObject } from './json-text';

export interface StoredDocument {
  readonly id: string;
  /** A JSON object. */
  readonly data: string;
}

export interface Preview {
  readonly text: string;
  readonly label: string;
  readonly confidence: number | undefined;
}

const seen = new WeakMap<StoredDocument, Preview>();

export function preview(document: StoredDocument): Preview {
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
