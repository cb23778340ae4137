import { execFile } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ROOT } from '../../helpers/source-tree.ts';

let bin: string;
let calls: string;

beforeEach(() => {
  bin = mkdtempSync(join(tmpdir(), 'skiff-setup-'));
  calls = join(bin, 'calls');
  writeFileSync(calls, '');
  // Other users may run what is in it: one test does so as somebody who is not root.
  chmodSync(bin, 0o755);
  chmodSync(calls, 0o666);
  mkdirSync(join(bin, 'made'), { mode: 0o777 });
  // A copy, as the checkout may be in a folder that only its owner may pass.
  mkdirSync(join(bin, 'a', 'b'), { recursive: true });
  copyFileSync(join(ROOT, 'infra/setup/ensure.sh'), join(bin, 'a', 'b', 'ensure.sh'));
});
afterEach(() => rmSync(bin, { recursive: true }));

/** A program that writes down how it was called. */
function program(name: string, script = ''): void {
  writeFileSync(join(bin, name), `#!/bin/bash\necho "${name} $*" >> ${calls}\n${script}\n`, { mode: 0o755 });
}

/** Runs a line of shell with the functions of ensure.sh and nothing but `bin` and the basic tools in PATH. */
function shell(line: string, asWhom: readonly string[] = []): Promise<{ code: number; output: string }> {
  const script = `set -euo pipefail; source ${bin}/a/b/ensure.sh; PATH=${bin}:${bin}/made:${bin}/basic; ${line}`;
  mkdirSync(join(bin, 'basic'), { recursive: true });
  const [command, args]: [string, string[]] =
    asWhom.length === 0 ? ['bash', ['-c', script]] : ['setpriv', [...asWhom, 'bash', '-c', script]];
  return new Promise((resolve) => {
    execFile(command, args, { cwd: '/' }, (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code) : 0, output: stdout + stderr }),
    );
  });
}

/** The tools the script itself uses. */
function basicTools(): void {
  mkdirSync(join(bin, 'basic'), { recursive: true });
  for (const tool of ['grep', 'tail', 'rm', 'mktemp', 'env', 'bash', 'touch', 'chmod']) {
    writeFileSync(join(bin, 'basic', tool), `#!/bin/sh\nPATH=/usr/bin:/bin exec ${tool} "$@"\n`, {
      mode: 0o755,
    });
  }
  writeFileSync(join(bin, 'basic', 'env'), '#!/bin/bash\nPATH=$PATH:/usr/bin exec /usr/bin/env "$@"\n', {
    mode: 0o755,
  });
}

const callsMade = () => readFileSync(calls, 'utf8').trim().split('\n').filter(Boolean);
const KNOWN = 'echo "  Candidate: 1.0"';
/** apt-get that brings the command `mytool` when it installs. */
const BRINGS_TOOL = `[[ $1 == install ]] && printf '#!/bin/sh\\n' > ${'$MADE'}/mytool && /usr/bin/chmod 755 ${'$MADE'}/mytool; exit 0`;

test('touches nothing when everything is there', async () => {
  basicTools();
  program('apt-get');
  program('mytool');
  expect(await shell('ensure_packages mytool:mypackage /etc/passwd:base')).toEqual({ code: 0, output: '' });
  expect(callsMade()).toEqual([]);
});

test('installs what is missing and nothing else, without recommendations', async () => {
  basicTools();
  program('apt-cache', KNOWN);
  program('apt-get', BRINGS_TOOL.replaceAll('$MADE', `${bin}/made`));
  program('there');
  const { code, output } = await shell('ensure_packages there:other mytool:mypackage');
  expect({ code, output }).toMatchObject({
    code: 0,
    output: expect.stringContaining('installing Debian packages: mypackage'),
  });
  const installs = callsMade().filter((call) => call.startsWith('apt-get'));
  expect(installs).toEqual([
    expect.stringMatching(/^apt-get install --yes --no-install-recommends .*mypackage$/),
  ]);
});

test('reads the list of packages first when it does not know one, and again when it is old', async () => {
  basicTools();
  program('apt-cache', 'echo "  Candidate: (none)"');
  program('apt-get', BRINGS_TOOL.replaceAll('$MADE', `${bin}/made`));
  expect((await shell('ensure_packages mytool:mypackage')).code).toBe(0);
  expect(callsMade().map((call) => call.split(' ').slice(0, 2).join(' '))).toEqual([
    'apt-cache policy',
    'apt-get update',
    'apt-get install',
  ]);

  rmSync(join(bin, 'made', 'mytool'));
  writeFileSync(calls, '');
  program('apt-cache', KNOWN);
  const failsOnce = `if [[ $1 == install && ! -e ${bin}/made/tried ]]; then /usr/bin/touch ${bin}/made/tried; echo "404 Not Found"; exit 100; fi`;
  program('apt-get', `${failsOnce}\n${BRINGS_TOOL.replaceAll('$MADE', `${bin}/made`)}`);
  const { code, output } = await shell('ensure_packages mytool:mypackage');
  expect(code).toBe(0);
  expect(output).toContain('404 Not Found');
  expect(
    callsMade()
      .filter((call) => call.startsWith('apt-get'))
      .map((call) => call.split(' ')[1]),
  ).toEqual(['install', 'update', 'install']);
});

test('says what is missing and what to type where there is no apt or no root', async () => {
  basicTools();
  const noApt = await shell('ensure_packages mytool:mypackage');
  expect(noApt).toMatchObject({
    code: 1,
    output: expect.stringContaining('needs mypackage and this system has no apt-get'),
  });
  program('apt-get');
  const noRoot = await shell('ensure_packages mytool:mypackage', [
    'setpriv',
    '--reuid',
    '65534',
    '--clear-groups',
  ]);
  expect(noRoot).toMatchObject({
    code: 1,
    output: expect.stringContaining('sudo apt-get install --no-install-recommends mypackage'),
  });
  expect(callsMade()).toEqual([]);
});

test('shows the output of apt when it fails, and ends', async () => {
  basicTools();
  program('apt-cache', KNOWN);
  program('apt-get', 'echo "E: no space left"; exit 100');
  const { code, output } = await shell('ensure_packages mytool:mypackage; echo went on');
  expect(code).toBe(1);
  expect(output).toContain('E: no space left');
  expect(output).not.toContain('went on');
});
