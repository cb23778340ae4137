import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { chooseCwd } from '../../../../runner/http/cwd.ts';

let root: string;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'skiff-cwd-'));
  await mkdir(join(root, 'srv/app'), { recursive: true });
  await mkdir(join(root, 'proc/self'), { recursive: true });
  await symlink('/srv', join(root, 'link'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

test.each([
  ['/srv/app', '/srv/app'],
  ['/srv/app/', '/srv/app'],
  ['/', '/'],
  ['/absent', '/'],
  ['/link/app', '/'],
  ['/proc/self', '/'],
  ['/srv/../srv', '/'],
])('an image that wants %s starts in %s', async (wanted, expected) => {
  expect(await chooseCwd(root, wanted)).toBe(expected);
});
