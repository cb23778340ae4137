/** Layers from other nodes: real certificates and TLS, a real registry, a real Redis, a store of layers for each node. */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import type { RequestListener, ServerResponse } from 'node:http';
import { createServer, request, type RequestOptions, type Server } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ConnectionOptions as TlsConnectionOptions } from 'node:tls';
import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openRedis } from '../../../infra/lib/redis.ts';
import { createLog } from '../../../infra/lib/log.ts';
import { packLayer } from '../../../infra/oci/layer-pack.ts';
import { MEDIA } from '../../../infra/oci/manifest.ts';
import { openRegistry, type Registry } from '../../../infra/oci/registry.ts';
import { summarize } from '../../../infra/oci/store/digest-summary.ts';
import { openStore, type LayerDescriptor, type LayerStore } from '../../../infra/oci/store.ts';
import { createAuthority, createKeyPair, issueLeaf, nodeName } from '../../../infra/swarm/certificates.ts';
import { clientTls, serverTls, swarmPorts, writeIdentity } from '../../../infra/swarm/identity.ts';
import { openMembers, type Members } from '../../../infra/swarm/members.ts';
import { LinkServer } from '../../../runner/swarm/link-server.ts';
import { PeerServer } from '../../../runner/swarm/peers/peer-server.ts';
import { Peers } from '../../../runner/swarm/peers/peers.ts';
import { describeSharing } from '../../../runner/swarm/peers/sharing.ts';
import { UploadPace } from '../../../runner/swarm/peers/upload-pace.ts';
import type { NodeRecord } from '../../../sdk/protocol/api.ts';
import { createNodeRecord } from '../../helpers/node-record.ts';
import { freePorts } from '../../helpers/ports.ts';
import { startRedis, type TestRedis } from '../../helpers/redis.ts';
import { blobFile, flipBit, startTestRegistry, type TestRegistry } from '../../helpers/registry.ts';

const log = createLog('test', 'silent');
const authority = createAuthority('test');
const stranger = createAuthority('stranger');

let server: TestRegistry;
let redisServer: TestRedis;
let redis: Redis;
let registry: Registry;
let members: Members;
let dir: string;
let nodes: TestNode[];
/** What the registry was asked for since a test began. */
let pulls: number;

beforeAll(async () => {
  [server, redisServer] = await Promise.all([startTestRegistry(), startRedis()]);
  redis = openRedis(redisServer.url);
  await redis.connect();
  members = openMembers(redis);
  const plain = openRegistry({ url: server.url });
  registry = {
    ...plain,
    pullBlob: (...args) => {
      pulls++;
      return plain.pullBlob(...args);
    },
  };
});
afterAll(async () => {
  await registry?.close();
  redis?.disconnect();
  await Promise.all([server?.stop(), redisServer?.close()]);
});
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'skiff-peers-'));
  nodes = [];
  pulls = 0;
});
afterEach(async () => {
  await Promise.all(nodes.map((node) => node.close()));
  await rm(dir, { recursive: true, force: true });
  await redis.flushall();
});

interface TestNode {
  readonly id: string;
  readonly identity: string;
  readonly port: number;
  readonly store: LayerStore;
  readonly peers: Peers;
  readonly links: LinkServer;
  record(): NodeRecord;
  close(): Promise<void>;
}

async function startNode(
  options: {
    readonly ca?: typeof authority;
    readonly others?: () => NodeRecord[];
    readonly briefMs?: number;
  } = {},
): Promise<TestNode> {
  const { briefMs = 5_000 } = options;
  const id = `node-${nodes.length}`;
  const port = await freePortBase();
  const identity = join(dir, id, 'swarm');
  issue(identity, id, port, options.ca);
  await members.put(member(id));
  const peers = new Peers({
    id,
    identityDir: identity,
    redis,
    isOn: () => true,
    nodes: () => options.others?.() ?? nodes.filter((node) => node.id !== id).map((node) => node.record()),
    log,
    // A busy machine is no slow peer.
    limits: {
      brief: { firstMs: briefMs, windowMs: briefMs, windowBytes: 64 * 1024 },
      led: { firstMs: 16_000, windowMs: 3_000, windowBytes: 64 * 1024 },
      long: { firstMs: 10_000, windowMs: 10_000, windowBytes: 1 },
      totalMs: 20_000,
      pauseMs: 50,
    },
  });
  const store = await openStore({ dir: join(dir, id, 'store'), registry, bytesMax: 1e9, peers });
  const peerServer: PeerServer = new PeerServer({
    store,
    pace: new UploadPace(1e9),
    isMember: (nodeId) => links.isMember(nodeId),
    log,
  });
  const links: LinkServer = new LinkServer({
    identityDir: identity,
    links: { accept: (socket) => socket.destroy() },
    peers: peerServer,
    members,
    log,
  });
  await links.open();
  const node: TestNode = {
    id,
    identity,
    port,
    store,
    peers,
    links,
    record: () =>
      createNodeRecord(id, {
        address: links.address,
        peers: describeSharing(peers, peerServer, store),
      }),
    async close() {
      links.close();
      peers.close();
      await store.close();
    },
  };
  nodes.push(node);
  return node;
}

async function freePortBase(): Promise<number> {
  const [link] = await freePorts(1);
  return (link as number) - 1;
}

function issue(identity: string, id: string, port: number, ca = authority): void {
  const keys = createKeyPair();
  const certificate = issueLeaf(ca, {
    publicKey: keys.publicKey,
    nodeId: id,
    role: 'worker',
    addresses: ['127.0.0.1'],
    lifeMs: 3_600_000,
  });
  writeIdentity(identity, {
    node: { nodeId: id, role: 'worker', swarm: 'test', address: '127.0.0.1', port, isBackbone: false },
    ca: ca.certificate,
    certificate,
    privateKey: keys.privateKey,
  });
}

const member = (id: string) => ({
  id,
  role: 'worker' as const,
  hostname: id,
  address: '127.0.0.1',
  joinedMs: 0,
  certificateUntilMs: Date.now() + 3_600_000,
  version: '0',
});

async function pushLayer(bytes = 1_000): Promise<LayerDescriptor> {
  const { data, ...layer } = await packLayer([{ path: 'var/task/index.cjs', data: randomBytes(bytes) }]);
  await registry.pushBlob('functions/a', data);
  return layer;
}

async function pushImage(layer: LayerDescriptor): Promise<string> {
  const config = await registry.pushBlob(
    'functions/a',
    Buffer.from(
      JSON.stringify({
        architecture: 'amd64',
        os: 'linux',
        rootfs: { type: 'layers', diff_ids: [layer.diffId] },
      }),
    ),
  );
  const manifest = {
    schemaVersion: 2,
    config: { mediaType: MEDIA.ociConfig, digest: config.digest, size: config.bytes },
    layers: [{ mediaType: layer.mediaType, digest: layer.digest, size: layer.bytes }],
  };
  const bytes = Buffer.from(JSON.stringify(manifest));
  return `functions/a@${await registry.putManifest('functions/a', bytes, MEDIA.ociManifest)}`;
}

/** A node with a good certificate that says it has a layer, and answers like this. */
async function startImpostor(
  has: string,
  answer: RequestListener,
): Promise<{ record: NodeRecord; asked: () => number; stop(): void }> {
  const identity = join(dir, 'impostor', 'swarm');
  const port = await freePortBase();
  issue(identity, 'node-bad', port);
  let asked = 0;
  const bad: Server = createServer({ ...serverTls(identity), ALPNProtocols: ['http/1.1'] }, (...args) => {
    asked++;
    answer(...args);
  });
  bad.listen(swarmPorts(port).link, '127.0.0.1');
  await once(bad, 'listening');
  const summary = summarize([has]);
  const record = createNodeRecord('node-bad', {
    address: `tcp:127.0.0.1:${swarmPorts(port).link}`,
    peers: {
      summary,
      kept: { count: 1, bytes: 1 },
      given: { count: 0, bytes: 0 },
      got: { count: 0, bytes: 0 },
      fromRegistry: 0,
      failed: 0,
    },
  });
  return {
    record,
    asked: () => asked,
    stop: () => {
      bad.closeAllConnections();
      bad.close();
    },
  };
}

/** Until its reader has had enough. */
function trickle(response: ServerResponse): void {
  response.writeHead(200);
  const timer = setInterval(() => response.write('x'), 100);
  response.on('close', () => clearInterval(timer));
}

describe('with the registry away', () => {
  test('a layer and a whole image come from the one node that has them', async () => {
    const [one, two] = [await startNode(), await startNode()];
    const [layer, below] = [await pushLayer(), await pushLayer()];
    const reference = await pushImage(below);
    await one.store.ensureLayer('functions/a', layer);
    await one.store.ensureRootfs(reference);
    await server.pause();
    try {
      await two.store.ensureLayer('functions/a', layer);
      await two.store.ensureRootfs(reference);
      expect(two.store.has('rootfs', reference.split('@')[1] as string)).toBe(true);
      expect(two.peers.got.count).toBe(2);
      expect(two.peers.got.bytes).toBe(layer.bytes + below.bytes);
      // What it got it gives on.
      const three = await startNode({ others: () => [two.record()] });
      await three.store.ensureLayer('functions/a', layer);
    } finally {
      await server.resume();
    }
  });

  test('it is said that the registry is away when nobody has it', async () => {
    const [, two] = [await startNode(), await startNode()];
    const layer = await pushLayer();
    await server.pause();
    try {
      await expect(two.store.ensureLayer('functions/a', layer)).rejects.toMatchObject({
        code: 'UNAVAILABLE',
        message: expect.stringContaining('registry') as string,
      });
    } finally {
      await server.resume();
    }
  });
});

test('a node that wants much at once is told to come back, not cut off', async () => {
  const one = await startNode();
  const layers = await Promise.all(Array.from({ length: 12 }, () => pushLayer(20_000)));
  for (const layer of layers) await one.store.ensureLayer('functions/a', layer);
  const two = await startNode();
  await Promise.all(layers.map((layer) => two.store.ensureLayer('functions/a', layer)));
  expect([two.peers.got.count, two.peers.failed, pulls]).toEqual([12, 0, 12]);
});

test('of a crowd that starts at once, one node asks the registry', async () => {
  const layer = await pushLayer(3_000_000);
  for (let i = 0; i < 6; i++) await startNode();
  await Promise.all(nodes.map(({ store }) => store.ensureLayer('functions/a', layer)));
  expect(pulls).toBe(1);
  expect(nodes.reduce((sum, { peers }) => sum + peers.got.count, 0)).toBe(5);
});

describe('a peer that is not what it seems', () => {
  const cases: [what: string, answer: RequestListener][] = [
    ['sends other bytes', (_, response) => response.end(randomBytes(1_061))],
    [
      'sends a part and ends',
      (_, response) => void response.writeHead(200).write('x', () => response.destroy()),
    ],
    ['sends more and more', (_, response) => response.end(randomBytes(500_000))],
    ['says nothing', () => {}],
    ['sends a byte now and then', (_, response) => trickle(response)],
    ['fails', (_, response) => void response.writeHead(500).end()],
    [
      'sends elsewhere',
      (_, response) => void response.writeHead(302, { location: `${server.url}/v2/` }).end(),
    ],
  ];
  test.each(cases)('%s: the registry is asked, and the peer is left alone', async (_, answer) => {
    const [layer, other] = [await pushLayer(200_000), await pushLayer()];
    const impostor = await startImpostor(layer.digest, answer);
    try {
      const node = await startNode({ others: () => [impostor.record], briefMs: 500 });
      const began = performance.now();
      const folder = await node.store.ensureLayer('functions/a', layer);
      expect(folder).toContain(layer.digest.slice(7));
      expect(performance.now() - began).toBeLessThan(10_000);
      expect([impostor.asked(), pulls, node.peers.failed]).toEqual([1, 1, 1]);
      await node.store.ensureLayer('functions/a', other);
      expect(impostor.asked()).toBe(1);
    } finally {
      impostor.stop();
    }
  });

  test('is of another swarm: nothing is taken from it', async () => {
    const layer = await pushLayer();
    const foreign = await startNode({ ca: stranger, others: () => [] });
    await foreign.store.ensureLayer('functions/a', layer);
    const node = await startNode({ others: () => [foreign.record()] });
    await node.store.ensureLayer('functions/a', layer);
    expect([pulls, node.peers.got.count, node.peers.failed]).toEqual([2, 0, 1]);
  });

  test('has a damaged disk: it gives the layer no more', async () => {
    const layer = await pushLayer();
    const one = await startNode();
    await one.store.ensureLayer('functions/a', layer);
    await flipBit(join(dir, one.id, 'store', 'layers', layer.digest.slice(7), 'blob'), 100);
    const two = await startNode();
    await two.store.ensureLayer('functions/a', layer);
    expect(pulls).toBe(2);
    await expect.poll(() => one.store.keptUsage().count).toBe(0);
    expect(one.store.has('layer', layer.digest)).toBe(true);
  });
});

describe('who may fetch', () => {
  const ask = async (from: TestNode, to: TestNode, path: string, method = 'GET'): Promise<number> => {
    const options: RequestOptions & TlsConnectionOptions = {
      host: '127.0.0.1',
      port: swarmPorts(to.port).link,
      path,
      method,
      agent: false,
      ALPNProtocols: ['http/1.1'],
      ...clientTls(from.identity, nodeName(to.id)),
      rejectUnauthorized: false,
    };
    const outgoing = request(options).end();
    const { promise, resolve } = Promise.withResolvers<number>();
    outgoing.on('response', (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    outgoing.on('error', () => resolve(0));
    return promise;
  };

  test('members only, and only blobs and documents by digest', async () => {
    const layer = await pushLayer();
    const one = await startNode();
    await one.store.ensureLayer('functions/a', layer);
    const two = await startNode();
    const foreign = await startNode({ ca: stranger });
    const path = `/v2/functions/a/blobs/${layer.digest}`;
    expect(await ask(two, one, path)).toBe(200);
    expect(await ask(foreign, one, path)).toBe(0);
    expect(await ask(two, one, path, 'DELETE')).toBe(405);
    for (const bad of [
      '/v2/',
      '/v2/functions/a/manifests/latest',
      `/v2/functions/a/../blobs/${layer.digest}/x`,
    ])
      expect(await ask(two, one, bad)).toBe(404);
    await members.remove(two.id);
    expect(await ask(two, one, path)).toBe(0);
  });

  test('a node that is removed loses connections that are open, and what it was about to get', async () => {
    const layer = await pushLayer();
    const one = await startNode();
    await one.store.ensureLayer('functions/a', layer);
    const two = await startNode();
    await two.store.ensureLayer('functions/a', layer);
    expect(two.peers.got.count).toBe(1);
    // Its connection is open still. Nobody reviews it here: the request is refused all the same.
    await members.remove(two.id);
    const next = await pushLayer();
    await one.store.ensureLayer('functions/a', next);
    await two.store.ensureLayer('functions/a', next);
    expect(two.peers.got.count).toBe(1);
    expect(pulls).toBe(3);
  });
});

test('what was damaged in the registry is not spread', async () => {
  const layer = await pushLayer();
  await flipBit(blobFile(server.dataDir, layer.digest), 100);
  const one = await startNode();
  await expect(one.store.ensureLayer('functions/a', layer)).rejects.toMatchObject({ code: 'INTERNAL' });
  expect(one.store.keptUsage().count).toBe(0);
});
