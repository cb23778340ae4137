/**
 * OpenTelemetry traces of one process. Off unless a standard variable turns it on, and then nothing of the SDK is
 * loaded (it takes 160 ms and 60 MB): the API's no-op tracer stays.
 *
 * On: `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set, or `OTEL_TRACES_EXPORTER` is
 * `otlp` or `console`. Off all the same: `OTEL_TRACES_EXPORTER=none`, `OTEL_SDK_DISABLED=true`. Protocol, headers,
 * sampling and batching have their OTEL_* names as well.
 *
 * Between processes the trace context is the text of a W3C traceparent inside a message, hence `startSpan` and
 * `traceparentOf`. Deliberately absent: automatic instrumentation (it slows what it measures), and metrics, which are
 * infra/lib/metrics.ts.
 */
import {
  type Attributes,
  type Context,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type TimeInput,
  type Tracer,
  context,
  isSpanContextValid,
  trace,
} from '@opentelemetry/api';

type Env = Readonly<Record<string, string | undefined>>;

export interface Telemetry {
  readonly isOn: boolean;
  /** Sends what is still buffered; gives up after two seconds without a collector. */
  shutdown(): Promise<void>;
}

const SHUTDOWN_MS_MAX = 2_000;

/**
 * Call it once in main.ts, before the first span. `role` is gateway, builder or runner; `env` is the process's own
 * environment, since the SDK reads the OTEL_* names there itself.
 */
export async function startTelemetry(role: string, env: Env): Promise<Telemetry> {
  if (!isTelemetryOn(env)) return { isOn: false, shutdown: () => Promise.resolve() };
  const { NodeSDK } = await import('@opentelemetry/sdk-node');
  const sdk = new NodeSDK({
    serviceName: `skiff-${role}`,
    instrumentations: [],
    // Empty, or the SDK would send metrics and logs too, to an endpoint that may only take traces.
    metricReaders: [],
    logRecordProcessors: [],
  });
  sdk.start();
  return {
    isOn: true,
    async shutdown() {
      let timer: NodeJS.Timeout | undefined;
      const limit = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, SHUTDOWN_MS_MAX);
      });
      // A collector that is away must not fail the end of the process.
      await Promise.race([sdk.shutdown().catch(() => {}), limit]);
      clearTimeout(timer);
    },
  };
}

function isTelemetryOn(env: Env): boolean {
  const exporter = env['OTEL_TRACES_EXPORTER'];
  if (env['OTEL_SDK_DISABLED']?.toLowerCase() === 'true' || exporter === 'none') return false;
  return Boolean(exporter || env['OTEL_EXPORTER_OTLP_ENDPOINT'] || env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT']);
}

export interface SpanOptions {
  /** Parent from another process; absent: the active span, if there is one. */
  readonly traceparent?: string | undefined;
  readonly kind?: SpanKind;
  readonly attributes?: Attributes;
  /** For spans of what has begun before: a Date or epoch milliseconds. */
  readonly startTime?: TimeInput;
}

let tracer: Tracer | undefined;

export function startSpan(name: string, options: SpanOptions = {}): Span {
  tracer ??= trace.getTracer('skiff');
  const { traceparent, kind = SpanKind.INTERNAL, attributes, startTime } = options;
  const parent = traceparent === undefined ? context.active() : toContext(traceparent);
  return tracer.startSpan(
    name,
    { kind, ...(attributes && { attributes }), ...(startTime !== undefined && { startTime }) },
    parent,
  );
}

/** Runs `work` with `span` as the active one, ends it, and records a failure. */
export async function inSpan<T>(span: Span, work: () => Promise<T>): Promise<T> {
  try {
    return await context.with(trace.setSpan(context.active(), span), work);
  } catch (error) {
    failSpan(span, error);
    throw error;
  } finally {
    span.end();
  }
}

export function failSpan(span: Span, error: unknown): void {
  if (error instanceof Error) span.recordException(error);
  span.setStatus({
    code: SpanStatusCode.ERROR,
    message: error instanceof Error ? error.message : String(error),
  });
}

/** To send along; undefined for a no-op span without a parent. */
export function traceparentOf(span: Span | undefined): string | undefined {
  if (!span) return undefined;
  const { traceId, spanId, traceFlags } = span.spanContext();
  if (!isSpanContextValid({ traceId, spanId, traceFlags })) return undefined;
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`;
}

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/** A malformed traceparent starts a new trace, as W3C Trace Context level 1 (§3.2.2.3) asks. */
function toContext(traceparent: string): Context {
  const match = TRACEPARENT.exec(traceparent);
  const [, version, traceId, spanId, flags, rest] = match ?? [];
  if (!traceId || !spanId || version === 'ff' || (version === '00' && rest !== undefined))
    return ROOT_CONTEXT;
  const spanContext = {
    traceId,
    spanId,
    traceFlags: Number.parseInt(flags as string, 16) & 1,
    isRemote: true,
  };
  return isSpanContextValid(spanContext) ? trace.setSpanContext(ROOT_CONTEXT, spanContext) : ROOT_CONTEXT;
}
