import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createClient } from '../../../sdk/client/index.ts';
import { functionFixture } from '../../helpers/fixtures.ts';
import { startOtlpReceiver, type CollectedSpan, type OtlpReceiver } from '../../helpers/otlp.ts';
import { startServer, type TestServer } from '../../helpers/server.ts';
import { waitFor } from '../../helpers/wait.ts';

describe('one trace for one invocation', () => {
  let receiver: OtlpReceiver;
  let server: TestServer;

  beforeAll(async () => {
    receiver = await startOtlpReceiver();
    server = await startServer({ env: receiver.env });
  });
  afterAll(async () => {
    await server.stop();
    await receiver.close();
  });

  const spansOf = (traceId: string): CollectedSpan[] =>
    receiver.spans().filter((span) => span.traceId === traceId);

  it('joins the client, the gateway, the runner and the handler in one tree', async () => {
    const { url } = await server.deploy(functionFixture('echo.ts'), ['--name', 'traced']);
    const traceId = '0af7651916cd43dd8448eb211c80319c';
    const parent = 'b7ad6b7169203331';
    const response = await fetch(`${url}/`, { headers: { traceparent: `00-${traceId}-${parent}-01` } });
    const seen = (await response.json()) as { headers: [string, string][]; invocationId: string };
    await expect
      .poll(
        () =>
          spansOf(traceId)
            .map((span) => span.service)
            .toSorted(),
        { timeout: 15_000 },
      )
      .toEqual(['skiff-gateway', 'skiff-runner']);
    const gateway = spansOf(traceId).find((span) => span.service === 'skiff-gateway') as CollectedSpan;
    const runner = spansOf(traceId).find((span) => span.service === 'skiff-runner') as CollectedSpan;
    expect(gateway.parentSpanId).toBe(parent);
    expect(runner.parentSpanId).toBe(gateway.spanId);
    expect(runner.attributes).toMatchObject({
      'faas.invocation_id': seen.invocationId,
      'faas.name': 'traced',
    });
    const handler = Object.fromEntries(seen.headers)['traceparent'];
    expect(handler).toBe(`00-${traceId}-${runner.spanId}-01`);
  });

  it('an asynchronous one is in the trace of who sent it: accepted, run, its steps and its calls', async () => {
    await server.deploy(functionFixture('echo.ts'), ['--name', 'traced-callee']);
    const { url } = await server.deploy(functionFixture('traced.ts'), ['--name', 'traced-flow']);
    const traceId = '2af7651916cd43dd8448eb211c80319c';
    const accepted = await fetch(url, {
      method: 'POST',
      headers: { prefer: 'respond-async', traceparent: `00-${traceId}-b7ad6b7169203331-01` },
    });
    const { id } = (await accepted.json()) as { id: string };
    const client = createClient({ url: server.url, token: server.adminToken });
    expect(await client.waitFor(id, { waitMs: 30_000 })).toMatchObject({ state: 'succeeded' });
    const find = (name: string, service: string) =>
      waitFor(`the span "${name}" of ${service}`, () =>
        spansOf(traceId).find((span) => span.name === name && span.service === service),
      );
    const accept = await find('accept traced-flow', 'skiff-gateway');
    expect(accept.parentSpanId).toBe('b7ad6b7169203331');
    expect(await find('POST /f/traced-flow', 'skiff-events')).toMatchObject({ parentSpanId: accept.spanId });
    await find('store charge', 'skiff-events');
    await find('GET /f/traced-callee', 'skiff-events');

    const trace = await client.trace(id);
    expect(trace).toMatchObject({
      id,
      state: 'succeeded',
      spans: [
        { functionName: 'traced-flow', attempt: 1, execMs: expect.any(Number) },
        { functionName: 'traced-callee', parent: id, status: 200 },
      ],
      steps: [{ name: 'charge', kind: 'step', atMs: expect.any(Number) }],
    });
    const { stdout } = await server.cli(['trace', id, '--no-logs']);
    expect(stdout).toMatch(/attempt 1 [^]*\n {2}traced-callee [^]*\n {2}charge +stored/);
  });

  it('a failed invocation is an error in its span', async () => {
    const { url } = await server.deploy(functionFixture('behaviour.ts'), ['--name', 'traced-failure']);
    const traceId = '1af7651916cd43dd8448eb211c80319c';
    await fetch(`${url}/throw`, { headers: { traceparent: `00-${traceId}-b7ad6b7169203331-01` } });
    await expect
      .poll(() => spansOf(traceId).filter((span) => span.status === 2).length, { timeout: 15_000 })
      .toBe(2);
  });
});
