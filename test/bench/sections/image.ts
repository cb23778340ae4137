/** An arbitrary OCI image that is on the host already: its cold start beside its own entrypoint run bare. */
import { execFile, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { LayerEntry } from '../../../infra/oci/layer-pack.ts';
import { openRegistry } from '../../../infra/oci/registry.ts';
import { pushTestImage } from '../../helpers/container-image.ts';
import { startTestRegistry } from '../../helpers/registry.ts';
import { stop } from '../bare.ts';
import { untilFirstByte } from '../first-byte.ts';
import type { Record } from '../stats.ts';
import type { Subject } from '../subject.ts';

const SERVER = join(import.meta.dirname, '../apps/image-server.cjs');
const NAME = 'image';

/** This machine's Node, its libraries and a server of a line: nothing of ours is in it. */
export async function deployImage(subject: Subject): Promise<void> {
  const remote = await startTestRegistry();
  try {
    const layers = [await nodeFiles(), [{ path: 'srv/server.cjs', data: await readFile(SERVER) }]];
    const config = { Entrypoint: ['/usr/bin/node', '/srv/server.cjs'] };
    await pushTestImage(openRegistry({ url: remote.url }), NAME, 'latest', { layers, config });
    const image = `127.0.0.1:${remote.port}/${NAME}:latest`;
    await subject.client.deploy(NAME, { image, config: { keepAlive: 0, concurrency: 1, max: 10 } });
  } finally {
    await remote.stop();
  }
}

export async function imageRound(
  record: Record,
  subject: Subject,
  port: number,
  samples: number,
): Promise<void> {
  for (let i = 0; i < samples; i++) {
    const started = performance.now();
    const env = { ...process.env, PORT: String(port) };
    const child = spawn(process.execPath, [SERVER], { env, stdio: 'ignore' });
    try {
      record.of('bare entrypoint of the image', 'ms').add(await untilFirstByte(started, port));
    } finally {
      await stop(child);
    }
    record.of('cold start of the image', 'ms').add(await subject.firstByteMs(NAME));
  }
}

async function nodeFiles(): Promise<LayerEntry[]> {
  const { stdout } = await promisify(execFile)('ldd', [process.execPath]);
  const libraries = [...stdout.matchAll(/(\/\S+)/g)].map(([path]) => path);
  return [
    { path: 'usr/bin/node', file: process.execPath, isExecutable: true },
    ...libraries.map((file) => ({ path: file.slice(1), file, isExecutable: true })),
  ];
}
