/**
 * How people write sizes and durations. Apart from manifest.ts so that the CLI can read a flag such as
 * `--since 5m` without loading the schema library (38 ms of start-up).
 */
const BYTE_UNITS: Record<string, number> = {
  b: 1,
  k: 1024,
  kb: 1024,
  kib: 1024,
  m: 1024 ** 2,
  mb: 1024 ** 2,
  mib: 1024 ** 2,
  g: 1024 ** 3,
  gb: 1024 ** 3,
  gib: 1024 ** 3,
};
const MS_UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** "256MB", "1g", 268435456 -> bytes (powers of 1024, as Docker). Undefined when it is not a size. */
export function tryParseBytes(value: string | number): number | undefined {
  if (typeof value === 'number') return Number.isSafeInteger(value) && value >= 0 ? value : undefined;
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(value.trim());
  const unit = BYTE_UNITS[match?.[2]?.toLowerCase() || 'b'];
  if (!match || unit === undefined) return undefined;
  return Math.round(Number(match[1]) * unit);
}

/** "30s", "1h30m", "250ms", 30000 -> milliseconds. Undefined when it is not a duration. */
export function tryParseMs(value: string | number): number | undefined {
  if (typeof value === 'number') return Number.isFinite(value) && value >= 0 ? value : undefined;
  const text = value.trim().toLowerCase();
  if (!/^(\d+(?:\.\d+)?(?:ms|s|m|h|d))+$/.test(text)) return undefined;
  let total = 0;
  for (const part of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) {
    total += Number(part[1]) * (MS_UNITS[part[2] as string] as number);
  }
  return Math.round(total);
}

const WORDS: readonly (readonly [RegExp, string])[] = [
  [/\s*(?:milliseconds?|msecs?)\b/g, 'ms'],
  [/\s*(?:seconds?|secs?)\b/g, 's'],
  [/\s*(?:minutes?|mins?)\b/g, 'm'],
  [/\s*(?:hours?|hrs?)\b/g, 'h'],
  [/\s*days?\b/g, 'd'],
];

/** As tryParseMs, and in words: "2 days", "1 hour 30 minutes", "1 week". */
export function tryParseSpan(value: string | number): number | undefined {
  if (typeof value === 'number') return tryParseMs(value);
  const weeks = value.toLowerCase().replace(/(\d+)\s*(?:weeks?|w)\b/g, (_, count) => `${Number(count) * 7}d`);
  const short = WORDS.reduce((text, [pattern, unit]) => text.replace(pattern, unit), weeks);
  return tryParseMs(short.replace(/\s+(?=\d)/g, ''));
}
