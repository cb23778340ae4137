import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { releaseClaim, tryClaim } from '../../../../infra/sandbox/claim.ts';

let dir: string;
let claim: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'skiff-claim-'));
  claim = join(dir, 'claim');
});
afterEach(() => rmSync(dir, { recursive: true }));

const statOf = (pid: number): string[] => {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
};

it('is had once while its owner lives, and again when it was released', () => {
  expect(tryClaim(claim)).toBe(true);
  expect(tryClaim(claim)).toBe(false);
  releaseClaim(claim);
  expect(tryClaim(claim)).toBe(true);
});

it('of a process that is no more, or of another one that had its pid, is nobody\u2019s', () => {
  for (const owner of ['999999999 1', `${process.pid} 1`, 'nonsense', '']) {
    writeFileSync(claim, owner);
    expect(tryClaim(claim), owner).toBe(true);
    releaseClaim(claim);
  }
});

it('of a process that has ended and was not collected yet is nobody\u2019s', async () => {
  // The shell never waits for its child, which stays a zombie until the shell ends.
  const shell = spawn('sh', ['-c', 'sleep 0.01 & echo $!; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  try {
    const pid = Number(
      await new Promise((resolve) => shell.stdout.once('data', (text) => resolve(String(text)))),
    );
    const startTime = statOf(pid)[19];
    await expect.poll(() => statOf(pid)[0]).toBe('Z');
    writeFileSync(claim, `${pid} ${startTime}`);
    expect(tryClaim(claim)).toBe(true);
  } finally {
    shell.kill('SIGKILL');
  }
});
