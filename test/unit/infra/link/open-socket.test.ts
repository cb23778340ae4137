import { mkdtempSync, rmSync } from 'node:fs';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { isRemote, openLinkSocket } from '../../../../infra/link/open-socket.ts';

function openFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'skiff-link-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

test('hosts have the same data folder: a runner is on this one when its socket is', async () => {
  const runDir = openFolder();
  const path = join(runDir, 'link-node-here.sock');
  const server = createServer().listen(path);
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  expect(isRemote({ link: `unix:${path}` }, runDir)).toBe(false);
  expect(isRemote({ link: `unix:${join(runDir, 'link-node-there.sock')}` }, runDir)).toBe(true);
  expect(isRemote({ link: `unix:${path}` }, openFolder())).toBe(true);
});

test('a runner of another host with the same data folder is called by its address', () => {
  const runDir = openFolder();
  const link = `unix:${join(runDir, 'link-node-there.sock')}`;
  // Without a certificate there is no TLS, which is tried because the address is.
  expect(() =>
    openLinkSocket({ id: 'node-there', link, address: 'tcp:10.0.0.9:7378' }, { runDir, identityDir: runDir }),
  ).toThrow(/certificate|swarm|ENOENT/);
});
