/**
 * Takes secrets out of log lines: their text, and their text as JSON and base64 write it. Best effort by nature: a
 * function that wants to print a secret can encode it otherwise; this stops accidents.
 */
export type Redact = (text: string) => string;

/** Shorter ones would be found in ordinary words. */
const LENGTH_MIN = 6;

/** Undefined when there is nothing to look for. `values` by name. */
export function createRedaction(values: ReadonlyMap<string, string>): Redact | undefined {
  const names = new Map<string, string>();
  for (const [name, value] of values) {
    if (value.trim().length < LENGTH_MIN) continue;
    for (const form of formsOf(value)) if (form.length >= LENGTH_MIN) names.set(form, name);
  }
  if (names.size === 0) return undefined;
  // Longest first: a secret that is part of another must not leave the rest of it.
  const forms = [...names.keys()].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(forms.map((form) => RegExp.escape(form)).join('|'), 'g');
  return (text) => text.replace(pattern, (form) => `[secret ${names.get(form)}]`);
}

function formsOf(value: string): string[] {
  const bytes = Buffer.from(value);
  const lines = value.split('\n').map((line) => line.trim());
  const json = JSON.stringify(value).slice(1, -1);
  const base64 = bytes.toString('base64').replace(/=+$/, '');
  return [value.trim(), json, base64, bytes.toString('base64url'), encodeURIComponent(value), ...lines];
}
