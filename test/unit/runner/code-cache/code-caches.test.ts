/** Which deployments get a code cache, who may use it, and when it is given up. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createLog } from '../../../../infra/lib/log.ts';
import { CodeCaches } from '../../../../runner/code-cache/code-caches.ts';
import { addSample, hasLost, isWorthMaking } from '../../../../runner/code-cache/worth.ts';
import type { Instance } from '../../../../runner/pool/instance.ts';
import type { Deployment } from '../../../../sdk/protocol/api.ts';
import type { CodeCacheUse } from '../../../../sdk/protocol/invocation.ts';
import { createDeployment } from '../../../helpers/deployment.ts';
import { waitFor } from '../../../helpers/wait.ts';

const LAYER = {
  digest: `sha256:${'a'.repeat(64)}`,
  diffId: `sha256:${'b'.repeat(64)}`,
  bytes: 1,
  mediaType: 'x',
};
const BYTES = Buffer.from('what V8 compiled');

describe('code caches', () => {
  let folder: string;
  let counted: number;
  let caches: CodeCaches;
  const open = () =>
    new CodeCaches({
      store: {
        annexOf: () => join(folder, 'annex'),
        countAnnex: (_digest, bytes) => (counted = bytes),
      },
      log: createLog('test', 'silent'),
    });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'skiff-code-caches-'));
    counted = 0;
    caches = open();
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const deploymentOf = (name: string): Deployment => {
    const deployment = createDeployment(name);
    return { ...deployment, image: { ...deployment.image, layers: [LAYER] } };
  };

  /** A sandbox that loads in `loadMs`, and answers with `bytes` when it is asked for its cache. */
  function load(
    deployment: Deployment,
    loadMs: number,
    codeCache: CodeCacheUse = 'absent',
    { uses = 1, bytes = BYTES }: { uses?: number; bytes?: Buffer } = {},
  ): { asked: number } {
    const seen = { asked: 0 };
    const instance = {
      deployment,
      uses,
      state: 'active',
      isQuiet: true,
      whileAwake: (work: () => Promise<unknown>) => work(),
    } as unknown as Instance;
    const guest = {
      readCodeCache: async () => {
        seen.asked++;
        return bytes;
      },
    };
    caches.onLoaded(instance, guest, { ok: true, loadMs, codeCache });
    return seen;
  }
  const found = (deployment: Deployment) => caches.tryFind(deployment);

  test('are made of what loads slowly, once it is quiet, for that deployment alone', async () => {
    const [slow, quick] = [deploymentOf('slow'), deploymentOf('quick')];
    const asked = load(quick, 0.5);
    load(slow, 60);
    await waitFor('the cache', async () => (await found(slow)) !== undefined);
    expect(asked).toEqual({ asked: 0 });
    expect(await found(quick)).toBeUndefined();
    // The same layer, another deployment: what one compiled never runs in the other.
    expect(await found({ ...deploymentOf('slow'), image: slow.image })).toBeUndefined();
    expect(statSync((await found(slow)) as string).mode & 0o777).toBe(0o444);
    await waitFor('its size', () => counted > BYTES.length);
  });

  test('are made once more after a call, and then no more', async () => {
    const slow = deploymentOf('slow');
    const first = load(slow, 60, 'absent', { uses: 0 });
    await waitFor('the first', () => first.asked === 1);
    await waitFor('its file', async () => (await found(slow)) !== undefined);
    caches = open();
    const second = load(slow, 20, 'used', { bytes: Buffer.from('more') });
    await waitFor('the second', () => second.asked === 1);
    const state = join(folder, 'annex', `${slow.id}.json`);
    await waitFor('its state', () => readFileSync(state, 'utf8').includes('"isTrained":true'));
    caches = open();
    expect(readFileSync((await found(slow)) as string, 'utf8')).toBe('more');
  });

  test('survive a restart, but not damage', async () => {
    const slow = deploymentOf('slow');
    load(slow, 60);
    await waitFor('the cache', async () => (await found(slow)) !== undefined);
    caches = open();
    const file = (await found(slow)) as string;
    expect(file).toMatch(/\.cache$/);
    rmSync(file);
    writeFileSync(file, 'damaged');
    caches = open();
    expect(await found(slow)).toBeUndefined();
    expect(readdirSync(join(folder, 'annex')).filter((name) => name.endsWith('.cache'))).toEqual([]);
  });

  test('that V8 refuses are made anew once, and given up when it refuses again', async () => {
    const slow = deploymentOf('slow');
    load(slow, 60);
    await waitFor('the cache', async () => (await found(slow)) !== undefined);
    load(slow, 60, 'rejected');
    await waitFor('its end', async () => (await found(slow)) === undefined);
    await waitFor('another one', async () => (await found(slow)) !== undefined);
    load(slow, 60, 'rejected');
    await waitFor('its end', async () => (await found(slow)) === undefined);
    const { asked } = load(slow, 60);
    expect(await found(slow)).toBeUndefined();
    expect(asked).toBe(0);
  });

  test('that do not win are not used any more', async () => {
    const slow = deploymentOf('slow');
    load(slow, 60);
    await waitFor('the cache', async () => (await found(slow)) !== undefined);
    for (let i = 0; i < 3; i++) load(slow, 58, 'used');
    await waitFor('its end', async () => (await found(slow)) === undefined);
  });

  test('of a layer are four at most: the oldest goes', async () => {
    const all = Array.from({ length: 5 }, (_, i) => deploymentOf(`slow-${i}`));
    for (const deployment of all) {
      load(deployment, 60);
      await waitFor('the cache', async () => (await found(deployment)) !== undefined);
    }
    const kept = readdirSync(join(folder, 'annex')).filter((name) => name.endsWith('.cache'));
    expect(kept).toHaveLength(4);
    expect(kept).not.toContain(`${all[0]?.id}.cache`);
  });
});

test('what loads in under 1 ms needs none; what gains less than a tenth has lost, after three loads', () => {
  expect(isWorthMaking({ plainMs: [], cachedMs: [] })).toBe(false);
  expect(isWorthMaking({ plainMs: [0.9], cachedMs: [] })).toBe(false);
  expect(isWorthMaking({ plainMs: [0.5, 1, 30], cachedMs: [] })).toBe(true);
  expect(hasLost({ plainMs: [50], cachedMs: [49, 49] })).toBe(false);
  expect(hasLost({ plainMs: [50, 80], cachedMs: [49, 70, 90] })).toBe(true);
  expect(hasLost({ plainMs: [50, 80], cachedMs: [30, 200, 200] })).toBe(false);
  expect(addSample([1, 2, 3, 4, 5, 6, 7, 8, 9], 10)).toEqual([2, 3, 4, 5, 6, 7, 8, 9, 10]);
});
