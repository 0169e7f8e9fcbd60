/** JSON lines on standard output. */

const LEVELS = ['off', 'error', 'warn', 'info', 'debug', 'trace'] as const;

export type Level = (typeof LEVELS)[number];

let most = LEVELS.indexOf('info');

export function isLevel(text: string): text is Level {
  return (LEVELS as readonly string[]).includes(text);
}

export function setLevel(level: Level): void {
  most = LEVELS.indexOf(level);
}

export function log(
  level: Exclude<Level, 'off'>,
  message: string,
  fields: Record<string, unknown> = {},
): void {
  if (LEVELS.indexOf(level) > most) return;
  const timestamp = new Date().toISOString();
  process.stdout.write(
    JSON.stringify({ timestamp, level: level.toUpperCase(), message, ...fields }) + '\n',
  );
}
