import { describe, expect, it } from 'vitest';
import { startSpan, startTelemetry, traceparentOf } from '../../../infra/lib/telemetry.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const SPAN = 'b7ad6b7169203331';
const passOn = (traceparent: string) => traceparentOf(startSpan('x', { traceparent }));

describe('without a collector', () => {
  it.each([
    {},
    { OTEL_TRACES_EXPORTER: 'none', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' },
    { OTEL_SDK_DISABLED: 'true', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' },
  ])('%o leaves telemetry off', async (env) => {
    const telemetry = await startTelemetry('gateway', env);
    expect(telemetry.isOn).toBe(false);
    await telemetry.shutdown();
  });

  it('a span is free of effects and has nothing to pass on', () => {
    const span = startSpan('x', { attributes: { a: 1 } });
    expect(span.isRecording()).toBe(false);
    expect(traceparentOf(span)).toBeUndefined();
    expect(traceparentOf(undefined)).toBeUndefined();
  });

  it('a caller’s trace context is passed on as it came', () => {
    expect(passOn(`00-${TRACE}-${SPAN}-01`)).toBe(`00-${TRACE}-${SPAN}-01`);
    expect(passOn(`00-${TRACE}-${SPAN}-00`)).toBe(`00-${TRACE}-${SPAN}-00`);
    // A later version may have more fields; what version 00 knows of it is kept (§4.3 of the recommendation).
    expect(passOn(`01-${TRACE}-${SPAN}-01-more`)).toBe(`00-${TRACE}-${SPAN}-01`);
  });

  it.each([
    '',
    'garbage',
    `ff-${TRACE}-${SPAN}-01`,
    `00-${TRACE}-${SPAN}-01-more`,
    `00-${'0'.repeat(32)}-${SPAN}-01`,
    `00-${TRACE}-${'0'.repeat(16)}-01`,
    `00-${TRACE.toUpperCase()}-${SPAN}-01`,
    `00-${TRACE}-${SPAN}-01\r\nx: y`,
  ])('the malformed %j is not', (traceparent) => expect(passOn(traceparent)).toBeUndefined());
});
