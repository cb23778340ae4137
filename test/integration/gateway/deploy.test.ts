import { createHash } from 'node:crypto';
import { request as httpRequest } from 'node:http';
import { Queue, Worker } from 'bullmq';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Catalog, openCatalog } from '../../../infra/catalog/catalog.ts';
import { subscribeChanges } from '../../../infra/catalog/changes.ts';
import { BUILD_QUEUE, type BuildJob, SOURCE_REPOSITORY } from '../../../infra/contract/jobs.ts';
import { durable } from '../../helpers/keys.ts';
import { openBlockingRedis } from '../../../infra/lib/redis.ts';
import { openRegistry } from '../../../infra/oci/registry.ts';
import type { BuildEvent, BuildRecord } from '../../../sdk/protocol/api.ts';
import { BUILDS_QUEUED_MAX, SOURCE_BYTES_MAX } from '../../../sdk/protocol/limits.ts';
import { type TestGateway, startGateway } from '../../helpers/gateway.ts';
import { readLines } from '../../helpers/lines.ts';
import { waitFor } from '../../helpers/wait.ts';

let gateway: TestGateway;
let catalog: Catalog;
let queue: Queue<BuildJob>;

beforeAll(async () => {
  gateway = await startGateway();
  catalog = openCatalog(gateway.durableRedis);
  queue = new Queue(BUILD_QUEUE, { connection: gateway.durableRedis, prefix: durable.bullPrefix });
});
afterAll(async () => {
  await queue.close();
  await gateway.close();
});
afterEach(() => queue.obliterate({ force: true }));

const source = Buffer.from('not really a tar archive');
const digest = `sha256:${createHash('sha256').update(source).digest('hex')}`;

const upload = (body: BodyInit) =>
  gateway.request('/v1/uploads', { method: 'POST', body, duplex: 'half' } as RequestInit);
const deploy = (name: string, body: unknown) =>
  gateway.request(`/v1/functions/${name}/deployments`, { method: 'POST', body: JSON.stringify(body) });

async function order(name = 'hello', more = {}): Promise<{ build: string; deployment: string }> {
  await upload(source);
  const response = await deploy(name, { source: { digest, bytes: source.length }, ...more });
  expect(response.status).toBe(202);
  return (await response.json()) as { build: string; deployment: string };
}

describe('uploads', () => {
  it('stores what was sent, with and without a stated length, and says its digest', async () => {
    const whole = await upload(source);
    expect([whole.status, await whole.json()]).toEqual([201, { digest, bytes: source.length }]);
    const chunked = await upload(new Blob([source]).stream());
    expect([chunked.status, await chunked.json()]).toEqual([201, { digest, bytes: source.length }]);
    const registry = openRegistry({ url: gateway.registry.url });
    expect(await registry.headBlob(SOURCE_REPOSITORY, digest)).toBe(source.length);
    await registry.close();
  });

  it('refuses an empty body, stated or not', async () => {
    expect((await upload('')).status).toBe(400);
    expect((await upload(new Blob([]).stream())).status).toBe(400);
  });

  it('refuses more than the limit, before the first byte when the length is stated', async () => {
    const status = await new Promise((resolve, reject) => {
      const request = httpRequest(`${gateway.url}/v1/uploads`, {
        method: 'POST',
        headers: { authorization: `Bearer ${gateway.adminToken}`, 'content-length': SOURCE_BYTES_MAX + 1 },
      });
      request.on('response', (response) => {
        resolve(response.statusCode);
        request.destroy();
      });
      request.on('error', reject);
      request.flushHeaders();
    });
    expect(status).toBe(413);
  });

  it('refuses more than the limit in a body of unknown length', async () => {
    const piece = Buffer.alloc(1024 * 1024);
    let sent = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        sent += piece.length;
        // Far beyond the limit it ends, so that a gateway that does not count cannot hang the test.
        if (sent > SOURCE_BYTES_MAX * 1.5) controller.close();
        else controller.enqueue(piece);
      },
    });
    const response = await upload(endless);
    expect(response.status).toBe(413);
    expect(await response.json()).toMatchObject({ code: 'BODY_TOO_LARGE' });
  });

  it('streams: memory grows by far less than what is sent', async () => {
    const read = async () => {
      const { readFile } = await import('node:fs/promises');
      return Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${gateway.pid}/status`, 'utf8'))?.[1]) * 1024;
    };
    const before = await read();
    let peak = before;
    let left = 90;
    const response = await upload(
      new ReadableStream<Uint8Array>({
        async pull(controller) {
          peak = Math.max(peak, await read());
          if (left-- > 0) controller.enqueue(Buffer.alloc(1024 * 1024, left));
          else controller.close();
        },
      }),
    );
    expect(response.status).toBe(201);
    expect(peak - before).toBeLessThan(60 * 1024 * 1024);
  });

  it('survives a client that goes away in the middle', async () => {
    const request = httpRequest(`${gateway.url}/v1/uploads`, {
      method: 'POST',
      headers: { authorization: `Bearer ${gateway.adminToken}`, 'content-length': 1_000_000 },
    });
    request.on('error', () => {});
    await new Promise<void>((resolve) => request.write(Buffer.alloc(1_000), () => resolve()));
    request.destroy();
    await waitFor('the broken upload to be noted', () => gateway.output().includes('"status":400'));
    expect((await upload(source)).status).toBe(201);
  });
});

describe('orders', () => {
  it('puts a complete job into the queue and answers with the ids', async () => {
    // As the request says it: defaults go below what the code says, which only the builder can read.
    const { build, deployment } = await order('hello', { config: { memory: '512MB' } });
    const job = await queue.getJob(build);
    expect(job?.data).toMatchObject({
      buildId: build,
      deploymentId: deployment,
      functionName: 'hello',
      source: { digest, bytes: source.length },
      url: `${gateway.url}/f/hello`,
    });
    expect((job?.data as BuildJob | undefined)?.config).toEqual({ memory: '512MB' });
    expect(await gateway.json(`/v1/builds/${build}`)).toMatchObject({
      state: 'queued',
      functionName: 'hello',
    });
  });

  it.each([
    ['Hello', {}, 'INVALID_NAME', 'function name "Hello"'],
    ['x'.repeat(64), {}, 'INVALID_NAME', '63'],
    ['hello', { config: { memory: 'lots' } }, 'INVALID_CONFIG', 'config.memory: "lots" is not a size'],
    ['hello', { config: { env: { PATH: '/' } } }, 'INVALID_CONFIG', 'config.env.PATH'],
    ['hello', { config: { memroy: '1GB' } }, 'INVALID_CONFIG', 'memroy'],
    ['hello', { source: { digest: 'sha256:1', bytes: 1 } }, 'BAD_REQUEST', 'body.source.digest'],
    ['hello', { sauce: 1 }, 'BAD_REQUEST', 'sauce'],
  ])('refuses %s with %o and says where', async (name, change, code, text) => {
    await upload(source);
    const response = await deploy(name, { source: { digest, bytes: source.length }, ...change });
    expect(await response.json()).toMatchObject({ code, detail: expect.stringContaining(text) });
    expect(await queue.getWaitingCount()).toBe(0);
  });

  it('refuses a source that was never uploaded', async () => {
    const response = await deploy('hello', { source: { digest: `sha256:${'0'.repeat(64)}`, bytes: 1 } });
    expect([response.status, await response.json()]).toMatchObject([422, { code: 'INVALID_SOURCE' }]);
  });

  it('refuses more builds than may wait, and leaves no record of the refused one', async () => {
    await order();
    await queue.addBulk(
      Array.from({ length: BUILDS_QUEUED_MAX }, (_, i) => ({
        name: 'build',
        data: {} as BuildJob,
        opts: { jobId: `x${i}` },
      })),
    );
    const records = await gateway.durableRedis.keys(durable.build('*'));
    const response = await deploy('hello', { source: { digest, bytes: source.length } });
    expect(response.status).toBe(503);
    expect(response.headers.get('retry-after')).toBe('1');
    expect(await response.json()).toMatchObject({ code: 'OVERLOADED' });
    expect(await gateway.durableRedis.keys(durable.build('*'))).toHaveLength(records.length);
  });
});

describe('build events', () => {
  const step: BuildEvent = { type: 'step', atMs: 1, step: 'fetch', status: 'start' };

  it('stream as they come, and end after the last', async () => {
    const { build } = await order();
    const lines = readLines<BuildEvent>(await gateway.request(`/v1/builds/${build}/events`));
    await catalog.appendBuildEvent(build, step);
    expect(await lines.next()).toEqual(step);
    const record: BuildRecord = {
      ...(await gateway.json<BuildRecord>(`/v1/builds/${build}`)),
      state: 'failed',
      endedMs: 2,
    };
    await catalog.putBuild(record);
    await catalog.appendBuildEvent(build, { type: 'end', atMs: 2, build: record });
    expect(await lines.rest()).toEqual([{ type: 'end', atMs: 2, build: record }]);
    const late = readLines<BuildEvent>(await gateway.request(`/v1/builds/${build}/events`));
    expect(await late.rest()).toEqual([step, { type: 'end', atMs: 2, build: record }]);
  });

  it('give back their Redis connection when the client leaves', async () => {
    const { build } = await order();
    const count = async () =>
      String(await gateway.durableRedis.client('LIST'))
        .trim()
        .split('\n').length;
    const before = await count();
    const lines = readLines(await gateway.request(`/v1/builds/${build}/events`));
    await catalog.appendBuildEvent(build, step);
    await lines.next();
    expect(await count()).toBe(before + 1);
    await lines.cancel();
    await expect.poll(count).toBe(before);
  });

  it('of an unknown build are 404, and HEAD opens no stream', async () => {
    expect((await gateway.request('/v1/builds/bld-x/events')).status).toBe(404);
    const { build } = await order();
    expect((await gateway.request(`/v1/builds/${build}/events`, { method: 'HEAD' })).status).toBe(405);
  });
});

describe('cancelling', () => {
  const cancel = (id: string) => gateway.request(`/v1/builds/${id}`, { method: 'DELETE' });

  it('withdraws a waiting build at once and ends its events', async () => {
    const { build } = await order();
    const response = await cancel(build);
    expect([response.status, await response.json()]).toMatchObject([202, { state: 'cancelled' }]);
    expect(await queue.getJob(build)).toBeUndefined();
    const events = await readLines<BuildEvent>(await gateway.request(`/v1/builds/${build}/events`)).rest();
    expect(events).toMatchObject([{ type: 'end', build: { id: build, state: 'cancelled' } }]);
    expect((await cancel(build)).status).toBe(202);
    expect((await cancel('bld-x')).status).toBe(404);
  });

  it('asks the builder to stop a running one and leaves its record to it', async () => {
    const { build } = await order();
    const heard: string[] = [];
    const stop = await subscribeChanges(openBlockingRedis(gateway.durable.url), ({ kind, name }) =>
      heard.push(`${kind} ${name}`),
    );
    const finish = Promise.withResolvers<void>();
    const connection = openBlockingRedis(gateway.durable.url);
    const worker = new Worker(BUILD_QUEUE, () => finish.promise, { connection, prefix: durable.bullPrefix });
    try {
      await waitFor('the build to run', async () => (await queue.getActiveCount()) === 1);
      expect((await cancel(build)).status).toBe(202);
      await expect.poll(() => heard).toContain(`cancel ${build}`);
      expect(await gateway.json(`/v1/builds/${build}`)).toMatchObject({ state: 'queued' });
    } finally {
      finish.resolve();
      await worker.close();
      connection.disconnect();
      stop();
    }
  });

  it('comes with the removal of a function, so that a late build cannot bring it back', async () => {
    const { build } = await order('doomed');
    const { build: other } = await order('other');
    expect((await gateway.request('/v1/functions/doomed', { method: 'DELETE' })).status).toBe(204);
    expect(await gateway.json(`/v1/builds/${build}`)).toMatchObject({ state: 'cancelled' });
    expect(await gateway.json(`/v1/builds/${other}`)).toMatchObject({ state: 'queued' });
    expect((await gateway.request('/v1/functions/doomed', { method: 'DELETE' })).status).toBe(404);
  });
});
