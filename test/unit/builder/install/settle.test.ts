import { execFileSync } from 'node:child_process';
import { lstat, readFile, readdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { settleTree, tryMeasure } from '../../../../builder/install/settle.ts';
import { createSourceFolder } from '../../../helpers/source-folder.ts';

const uid = process.getuid?.() ?? 0;

test('keeps files, folders and links that stay inside, and removes every other thing', async () => {
  await using outside = await createSourceFolder({ secret: 's' });
  await using folder = await createSourceFolder({ 'a/b/file.js': 'x', 'a/tool': '#!/bin/sh' });
  execFileSync('chmod', ['4777', join(folder.path, 'a/tool')]);
  execFileSync('chmod', ['0600', join(folder.path, 'a/b/file.js')]);
  execFileSync('mkfifo', [join(folder.path, 'fifo')]);
  await symlink('a/b', join(folder.path, 'inside'));
  await symlink(outside.path, join(folder.path, 'absolute'));
  await symlink('..', join(folder.path, 'up'));
  await symlink('../../..', join(folder.path, 'a/b/root-by-steps'));
  await symlink('inside/../../..', join(folder.path, 'through-a-link'));
  await symlink('nowhere', join(folder.path, 'dangling'));
  await symlink('circle', join(folder.path, 'circle'));
  const tree = await settleTree(folder.path, uid);
  expect((await readdir(folder.path)).sort()).toEqual(['a', 'inside']);
  expect(await readdir(join(folder.path, 'a/b'))).toEqual(['file.js']);
  expect((await lstat(join(folder.path, 'a/tool'))).mode & 0o7777).toBe(0o755);
  expect((await lstat(join(folder.path, 'a/b/file.js'))).mode & 0o7777).toBe(0o644);
  expect(tree.bytes).toBe(10);
  expect(await readFile(join(outside.path, 'secret'), 'utf8')).toBe('s');
});

test('stops measuring at the limit', async () => {
  await using folder = await createSourceFolder({ a: 'x'.repeat(100), 'b/c': 'y'.repeat(100) });
  await expect(tryMeasure(folder.path, 200)).resolves.toBe(200);
  await expect(tryMeasure(folder.path, 199)).resolves.toBeUndefined();
});
