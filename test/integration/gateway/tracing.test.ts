import { Queue } from 'bullmq';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { BUILD_QUEUE, type BuildJob } from '../../../infra/contract/jobs.ts';
import { durable } from '../../helpers/keys.ts';
import { type TestGateway, startGateway } from '../../helpers/gateway.ts';
import { type CollectedSpan, type OtlpReceiver, startOtlpReceiver } from '../../helpers/otlp.ts';
import { waitFor } from '../../helpers/wait.ts';

let gateway: TestGateway;
let receiver: OtlpReceiver;
beforeAll(async () => {
  receiver = await startOtlpReceiver();
  gateway = await startGateway({ env: receiver.env });
});
afterAll(async () => {
  await gateway.close();
  await receiver.close();
});

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT = 'b7ad6b7169203331';
const find = (name: string): Promise<CollectedSpan> =>
  waitFor(`span "${name}"`, () => receiver.spans().find((span) => span.name === name));

it('continues the caller’s trace, names the route, and writes the trace id into the log', async () => {
  await gateway.request('/v1/functions/nobody', { headers: { traceparent: `00-${TRACE}-${PARENT}-01` } });
  const span = await find('GET /v1/functions/:name');
  expect(span).toMatchObject({
    service: 'skiff-gateway',
    traceId: TRACE,
    parentSpanId: PARENT,
    attributes: { 'http.request.method': 'GET', 'http.route': '/v1/functions/:name' },
  });
  expect(Number(span.attributes['http.response.status_code'])).toBe(404);
  const line = await waitFor('the log line', () =>
    gateway
      .output()
      .split('\n')
      .find((text) => text.includes('/v1/functions/nobody')),
  );
  expect(JSON.parse(line)).toMatchObject({ traceId: TRACE, spanId: span.spanId, msg: 'request' });
});

it('starts a trace when the caller has none, and hands it to the builder with the job', async () => {
  const uploaded = await gateway.json<{ digest: string; bytes: number }>('/v1/uploads', {
    method: 'POST',
    body: 'x',
  });
  const { build } = await gateway.json<{ build: string }>('/v1/functions/hello/deployments', {
    method: 'POST',
    body: JSON.stringify({ source: { digest: uploaded.digest, bytes: uploaded.bytes } }),
  });
  const span = await find('POST /v1/functions/:name/deployments');
  expect(span.parentSpanId).toBeUndefined();
  const queue = new Queue<BuildJob>(BUILD_QUEUE, {
    connection: gateway.durableRedis,
    prefix: durable.bullPrefix,
  });
  try {
    expect((await queue.getJob(build))?.data.traceparent).toBe(`00-${span.traceId}-${span.spanId}-01`);
  } finally {
    await queue.close();
  }
});

it('sends what is buffered when it stops', async () => {
  await gateway.request('/v1/nodes');
  expect(await gateway.stop()).toBe(0);
  expect(receiver.spans().map(({ name }) => name)).toContain('GET /v1/nodes');
});

it('stops in time when the collector is away', async () => {
  const lonely = await startGateway({
    env: { ...receiver.env, OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' },
  });
  try {
    await lonely.request('/v1/nodes');
    const startMs = performance.now();
    expect(await lonely.stop()).toBe(0);
    expect(performance.now() - startMs).toBeLessThan(4_000);
  } finally {
    await lonely.close();
  }
});
