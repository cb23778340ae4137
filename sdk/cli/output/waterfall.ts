/** A trace as text: one line for each part of each call, with a bar where and how long it was. */
import type { Trace, TraceSpan } from '../../client/index.ts';
import type { Channel, Style } from './channel.ts';
import { makeSafe } from './function-text.ts';

interface Part {
  readonly name: string;
  readonly style: Style;
  readonly startMs: number;
  readonly ms: number;
}

interface Row {
  readonly label: string;
  readonly part: Part;
}

const BAR_CHARS_MAX = 60;
const BAR_CHARS_MIN = 12;
const PART_CHARS = 6;
const TIME_CHARS = 10;
/** Less than this is not worth a line of its own. */
const PART_MS_MIN = 0.05;
/** The store's clock and those of hosts differ a little. */
const CLOCKS_MS = 20;

export function formatWaterfall(channel: Channel, trace: Trace): string[] {
  const [first] = trace.spans;
  if (!first) return [describeTrace(channel, trace)];
  const rows = listRows(trace);
  const zeroMs = trace.acceptedMs ?? first.startMs;
  const endMs = Math.max(...rows.map(({ part }) => part.startMs + part.ms), zeroMs + 0.1);
  const labelChars = Math.max(...rows.map(({ label }) => label.length));
  const room = channel.columns - labelChars - PART_CHARS - TIME_CHARS - 4;
  const width = Math.max(BAR_CHARS_MIN, Math.min(BAR_CHARS_MAX, room));
  const lines = rows.map(({ label, part }) => {
    const bar = drawBar(part.startMs - zeroMs, part.ms, endMs - zeroMs, width);
    const time = (part.name === 'stored' ? '' : formatDuration(part.ms)).padStart(TIME_CHARS);
    return `${label.padEnd(labelChars)}  ${part.name.padEnd(PART_CHARS)} ${channel.style(part.style, bar)}${time}`;
  });
  return [describeTrace(channel, trace), ...lines, ...describeFailures(channel, trace)];
}

/** `0.42 ms`, `12.3 ms`, `1.24 s`: to three digits, as differences matter here. */
export function formatDuration(ms: number): string {
  if (ms >= 1000) return `${Number((ms / 1000).toPrecision(3))} s`;
  return `${Number(ms.toPrecision(3))} ms`;
}

function describeTrace(channel: Channel, trace: Trace): string {
  const [first] = trace.spans;
  const id = channel.style('dim', trace.id);
  if (!first) return `${id}  ${trace.state ?? 'nothing recorded yet'}`;
  const parts = [
    channel.style('bold', first.functionName),
    trace.state ?? describeStatus(channel, first),
    first.ms === undefined ? 'running' : formatDuration(first.ms),
    first.node === undefined ? undefined : `on ${first.node}`,
    first.deployment,
  ];
  return `${id}  ${parts.filter((part) => part !== undefined).join('  ')}`;
}

function describeStatus(channel: Channel, { status, cause }: TraceSpan): string | undefined {
  if (cause !== undefined) return channel.style('red', cause);
  if (status === undefined) return 'left by its caller';
  return channel.style(status < 400 ? 'green' : 'yellow', String(status));
}

function describeFailures(channel: Channel, { spans }: Trace): string[] {
  return spans
    .filter(({ cause }) => cause !== undefined)
    .map(({ functionName, attempt, cause, detail }) => {
      const what = attempt === undefined ? functionName : `attempt ${attempt}`;
      return channel.style('red', `${what}: ${cause}${detail === undefined ? '' : `: ${makeSafe(detail)}`}`);
    });
}

/** Calls stand below the call that made them, further in. */
function listRows(trace: Trace): Row[] {
  const rows: Row[] = [];
  const add = (span: TraceSpan, depth: number): void => {
    const name = span.attempt === undefined ? span.functionName : `attempt ${span.attempt}`;
    for (const [i, part] of listParts(span).entries())
      rows.push({ label: i === 0 ? '  '.repeat(depth) + name : '', part });
    for (const child of trace.spans)
      if (child.parent === span.id && child !== span && isWithin(child.startMs, span)) add(child, depth + 1);
    if (span.attempt === undefined) return;
    for (const step of trace.steps ?? [])
      if (step.atMs !== undefined && isWithin(step.atMs, span))
        rows.push({
          label: `${'  '.repeat(depth + 1)}${makeSafe(step.name)}`,
          part: describeStep(step, step.atMs),
        });
  };
  const [first] = trace.spans;
  if (trace.acceptedMs !== undefined && first !== undefined) {
    const ms = Math.max(0, first.startMs - trace.acceptedMs);
    const part = { name: 'queue', style: 'yellow', startMs: trace.acceptedMs, ms } as const;
    rows.push({ label: first.functionName, part });
  }
  for (const span of trace.spans) if (span === first || span.attempt !== undefined) add(span, 0);
  return rows;
}

/** Attempts of one invocation share its id: what was done in its course belongs to the one that ran then. */
function isWithin(atMs: number, { attempt, startMs, ms = Number.POSITIVE_INFINITY }: TraceSpan): boolean {
  return attempt === undefined || (atMs >= startMs - CLOCKS_MS && atMs <= startMs + ms + CLOCKS_MS);
}

/** Of a step it is known when its result was stored. */
function describeStep({ kind, dueMs }: NonNullable<Trace['steps']>[number], atMs: number): Part {
  if (kind === 'step') return { name: 'stored', style: 'green', startMs: atMs, ms: 0 };
  return {
    name: kind,
    style: 'yellow',
    startMs: atMs,
    ms: Math.max(0, Math.min(dueMs ?? atMs, Date.now()) - atMs),
  };
}

function listParts(span: TraceSpan): Part[] {
  const { startMs, ms = 0, queueMs = 0, coldMs = 0, execMs } = span;
  if (execMs === undefined) return [{ name: 'run', style: span.cause ? 'red' : 'green', startMs, ms }];
  const known = queueMs + coldMs + execMs;
  const parts: Part[] = [
    { name: 'queue', style: 'yellow', startMs, ms: queueMs },
    { name: 'cold', style: 'blue', startMs: startMs + queueMs, ms: coldMs },
    { name: 'exec', style: span.cause ? 'red' : 'green', startMs: startMs + queueMs + coldMs, ms: execMs },
    // From the head of the answer to its end, and what the way between gateway and runner took.
    { name: 'answer', style: 'dim', startMs: startMs + known, ms: ms - known },
  ];
  return parts.filter(({ name, ms: partMs }) => name === 'exec' || partMs >= PART_MS_MIN);
}

function drawBar(startMs: number, ms: number, totalMs: number, width: number): string {
  const from = Math.min(width - 1, Math.max(0, Math.floor((startMs / totalMs) * width)));
  const chars = Math.max(1, Math.min(width - from, Math.round((ms / totalMs) * width)));
  return (' '.repeat(from) + (ms * width < totalMs ? '▏' : '█'.repeat(chars))).padEnd(width);
}
