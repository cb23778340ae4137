/** What a deploy sends: which files, under which names, in which bytes. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { unpackTar } from 'modern-tar';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NAME_PATTERN } from '../../../sdk/protocol/manifest.ts';
import { findSource, suggestName, toName } from '../../../sdk/cli/source/files.ts';
import { measureSource, packSource } from '../../../sdk/cli/source/pack.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'skiff-source-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function write(files: Readonly<Record<string, string>>, folder = root): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
}

const names = (path = root): string[] => findSource(path).files.map(({ name }) => name);

describe('a folder', () => {
  test('is sent sorted, without node_modules, .git, .env and what is ignored', () => {
    write({
      'index.ts': '',
      'package.json': '{}',
      'lib/b.ts': '',
      'lib/a.ts': '',
      'lib/debug.log': '',
      'dist/index.js': '',
      '.gitignore': 'dist/\n*.log\n',
      '.env': 'SECRET=1',
      '.env.local': 'SECRET=1',
      'node_modules/x/index.js': '',
      'lib/node_modules/y/index.js': '',
      '.git/config': '',
    });
    expect(names()).toEqual(['.gitignore', 'index.ts', 'lib/a.ts', 'lib/b.ts', 'package.json']);
  });

  test('a rule file of an inner folder holds there, and .skiffignore has the last word', () => {
    write({
      'a/.gitignore': 'data.json\n',
      'a/data.json': '',
      'a/keep.ts': '',
      'b/data.json': '',
      '.gitignore': 'generated\n.env.example\n',
      '.skiffignore': '!generated\n!.env\nREADME.md\n',
      'generated/schema.ts': '',
      'README.md': '',
      '.env': '',
    });
    expect(names()).toEqual([
      '.env',
      '.gitignore',
      '.skiffignore',
      'a/.gitignore',
      'a/keep.ts',
      'b/data.json',
      'generated/schema.ts',
    ]);
  });

  test('nothing brings node_modules back', () => {
    write({ 'index.ts': '', 'node_modules/x.js': '', '.skiffignore': '!node_modules\n!node_modules/**\n' });
    expect(names()).toEqual(['.skiffignore', 'index.ts']);
  });

  test('rules of the repository above it hold in it', () => {
    write({
      '.git/HEAD': '',
      '.gitignore': '/services/api/private\n*.secret\n',
      'services/api/index.ts': '',
      'services/api/private/key.ts': '',
      'services/api/a.secret': '',
    });
    expect(names(join(root, 'services/api'))).toEqual(['index.ts']);
  });

  test('a link is sent as the file it leads to, and left out when it leads outside', () => {
    write({ 'index.ts': 'x', 'real.ts': 'export {};' });
    const outside = mkdtempSync(join(tmpdir(), 'skiff-outside-'));
    write({ secret: 'no' }, outside);
    symlinkSync('real.ts', join(root, 'alias.ts'));
    symlinkSync(join(outside, 'secret'), join(root, 'stolen.ts'));
    symlinkSync('nowhere', join(root, 'broken.ts'));
    symlinkSync(outside, join(root, 'folder'));
    const source = findSource(root);
    rmSync(outside, { recursive: true });
    expect(source.files.map(({ name }) => name)).toEqual(['alias.ts', 'index.ts', 'real.ts']);
    expect(source.skipped.toSorted()).toEqual(['broken.ts', 'folder', 'stolen.ts']);
  });

  test('without a file is refused with the reason', () => {
    write({ '.env': '' });
    expect(() => findSource(root)).toThrow(/has no files to deploy/);
    expect(() => findSource(join(root, 'absent'))).toThrow(/absent does not exist/);
  });
});

describe('a single file', () => {
  test('goes with what it imports by a relative path, and with the package.json beside it', () => {
    write({
      'hello.ts': `import { a } from './lib/a.ts';\nexport * from "./b.js";\nconst c = await import('./c');\nrequire('./d');\nnew URL('./e.txt', import.meta.url);\nimport 'zod';`,
      'lib/a.ts': `import '../f.json' with { type: 'json' };`,
      'b.ts': '',
      'c/index.ts': '',
      'd.cjs': '',
      'e.txt': '',
      'f.json': '{}',
      'unrelated.ts': '',
      'package.json': '{}',
    });
    const source = findSource(join(root, 'hello.ts'));
    expect(source.files.map(({ name }) => name)).toEqual([
      'b.ts',
      'c/index.ts',
      'd.cjs',
      'e.txt',
      'f.json',
      'hello.ts',
      'lib/a.ts',
      'package.json',
    ]);
    expect(source.entry).toBe('hello.ts');
  });

  test('may import from above; the common folder is then the root', () => {
    write({ 'functions/hello.ts': `import '../shared/x.ts'`, 'shared/x.ts': '', 'functions/other.ts': '' });
    const source = findSource(join(root, 'functions/hello.ts'));
    expect(source.files.map(({ name }) => name)).toEqual(['functions/hello.ts', 'shared/x.ts']);
    expect(source.entry).toBe('functions/hello.ts');
  });

  test('that imports in a circle or what is not there is sent once', () => {
    write({ 'a.ts': `import './b.ts'; import './absent.ts'`, 'b.ts': `import './a.ts'` });
    expect(names(join(root, 'a.ts'))).toEqual(['a.ts', 'b.ts']);
  });
});

describe('the archive', () => {
  const pack = async (path = root) =>
    new Uint8Array(await new Response(packSource(findSource(path).files)).arrayBuffer());

  test('has the same bytes wherever and whenever it is packed', async () => {
    const long = `${'deep/'.repeat(30)}file.ts`;
    const files = { 'b.ts': 'b', 'a.ts': 'a', [long]: 'x', 'ünïcode.ts': 'ü' };
    write(files);
    const first = await pack();
    const elsewhere = join(root, 'copy');
    write(Object.fromEntries(Object.entries(files).toReversed()), elsewhere);
    utimesSync(join(elsewhere, 'a.ts'), 1, 1);
    chmodSync(join(elsewhere, 'b.ts'), 0o600);
    expect(Buffer.compare(first, await pack(elsewhere))).toBe(0);
  });

  test('holds names, contents, and of the mode what is executable', async () => {
    write({ 'run.sh': '#!/bin/sh', 'deep/data.bin': 'x'.repeat(700) });
    chmodSync(join(root, 'run.sh'), 0o700);
    const entries = await unpackTar(await pack());
    expect(
      entries.map(({ header, data }) => [
        header.name,
        header.mode,
        header.uid,
        header.mtime?.getTime(),
        data?.length,
      ]),
    ).toEqual([
      ['deep/data.bin', 0o644, 0, 0, 700],
      ['run.sh', 0o755, 0, 0, 9],
    ]);
  });

  test('is refused when it is too large, with the largest files named', () => {
    write({ 'index.ts': '' });
    const path = join(root, 'video.mp4');
    writeFileSync(path, '');
    const huge = { name: 'video.mp4', path, isExecutable: false };
    expect(measureSource([huge])).toBe(0);
    const many = Array.from({ length: 50_001 }, () => huge);
    expect(() => measureSource(many)).toThrow(/50001 files; the limit is 50000/);
  });

  test('a file that vanishes while it is packed fails the archive', async () => {
    write({ 'a.ts': '', 'b.ts': '' });
    const { files } = findSource(root);
    rmSync(join(root, 'b.ts'));
    await expect(new Response(packSource(files)).arrayBuffer()).rejects.toThrow(/ENOENT/);
  });
});

describe('the name', () => {
  test.each([
    ['package.json', { 'package.json': '{"name":"@acme/Image Tool"}', 'index.ts': '' }, '', 'image-tool'],
    ['the file', { 'resizeImage.ts': '' }, 'resizeImage.ts', 'resize-image'],
    ['the folder of an index file', { 'thumbs/index.ts': '' }, 'thumbs/index.ts', 'thumbs'],
    ['the folder', { 'my_api/server.ts': '' }, 'my_api', 'my-api'],
    [
      'the folder when package.json is broken',
      { 'shop/package.json': '{', 'shop/index.js': '' },
      'shop',
      'shop',
    ],
  ])('comes from %s', (_, files, path, name) => {
    write(files);
    expect(suggestName(findSource(join(root, path)))).toBe(name);
  });

  test('made of any text is allowed or empty', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 100 }), (text) => {
        const name = toName(text);
        return name === '' || (NAME_PATTERN.test(name) && name.length <= 63);
      }),
    );
  });
});
