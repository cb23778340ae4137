import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createDataFolder, type DataPaths } from '../../../infra/host/data-folder.ts';
import type { ProcessSpec } from '../../../infra/host/process/managed-process.ts';
import { tryReadProcess } from '../../../infra/host/process/process-record.ts';
import { Supervisor } from '../../../infra/host/supervisor.ts';
import { waitFor } from '../../helpers/wait.ts';

let dataDir: string;
let paths: DataPaths;
let supervisors: Supervisor[];
let deaths: { name: string; how: string; delayMs: number }[];
let started: { name: string; pid: number }[];

beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'skiff-host-'));
  paths = createDataFolder(dataDir);
  supervisors = [];
  deaths = [];
  started = [];
});
afterEach(async () => {
  for (const supervisor of supervisors) await supervisor.stop();
  rmSync(dataDir, { recursive: true });
});

/** A process that says in `journal` when it starts and when it is asked to end. */
function standIn(name: string, script?: string): ProcessSpec {
  const journal = join(dataDir, 'journal');
  const orderly = `trap 'echo stop ${name} >> ${journal}; exit 0' TERM; echo start ${name} >> ${journal}; while :; do sleep 0.05; done`;
  return {
    name,
    command: 'sh',
    args: ['-c', script ?? orderly],
    env: { PATH: process.env['PATH'] },
    isReady: async () => existsSync(journal) && readFileSync(journal, 'utf8').includes(`start ${name}`),
    stopMsMax: 2_000,
  };
}

function supervise(backbone: ProcessSpec[], roles: ProcessSpec[]): Supervisor {
  const state = { pid: process.pid, url: 'http://127.0.0.1:1', version: '0', startedMs: 0, registryUrl: '' };
  const supervisor = new Supervisor({ backbone, roles, state }, paths, {
    onLine() {},
    onStart: (name, pid) => void started.push({ name, pid }),
    onDeath: (name, how, delayMs) => void deaths.push({ name, how, delayMs }),
  });
  supervisors.push(supervisor);
  return supervisor;
}

const journal = () => readFileSync(join(dataDir, 'journal'), 'utf8').trim().split('\n');
const isAlive = (pid: number) => tryReadProcess(pid) !== undefined;

test('starts the backbone before the roles and stops everything the other way round', async () => {
  const supervisor = supervise([standIn('redis')], [standIn('runner'), standIn('gateway')]);
  await supervisor.start();
  expect(journal()[0]).toBe('start redis');
  expect(journal().slice(1).sort()).toEqual(['start gateway', 'start runner']);
  const state = JSON.parse(readFileSync(paths.serverState, 'utf8'));
  expect(state.processes).toEqual(Object.fromEntries(started.map(({ name, pid }) => [name, pid])));
  await supervisor.stop();
  expect(journal().slice(3)).toEqual(['stop gateway', 'stop runner', 'stop redis']);
  expect(started.filter(({ pid }) => isAlive(pid))).toEqual([]);
  expect(existsSync(paths.serverState)).toBe(false);
});

test('starts a process again when it dies, with growing pauses, and writes its new pid', async () => {
  const supervisor = supervise([], [standIn('runner')]);
  await supervisor.start();
  for (const count of [1, 2]) {
    const { pid } = started.at(-1) as { pid: number };
    process.kill(pid, 'SIGKILL');
    await waitFor('another start', () => started.length === count + 1);
    expect(isAlive(pid)).toBe(false);
  }
  expect(deaths.map(({ how, delayMs }) => [how, delayMs])).toEqual([
    ['was ended by SIGKILL', 100],
    ['was ended by SIGKILL', 200],
  ]);
  expect(JSON.parse(readFileSync(paths.serverState, 'utf8')).processes.runner).toBe(started.at(-1)?.pid);
});

test('gives up at the start on a process that keeps dying, with its last words', async () => {
  const broken = standIn('runner', 'echo "fatal: no such device" >&2; exit 3');
  const supervisor = supervise([standIn('redis')], [broken]);
  await expect(supervisor.start()).rejects.toThrow(/runner ended 5 times[^]*no such device/);
  expect(deaths[0]?.how).toBe('ended with code 3 (fatal: no such device)');
  expect(readFileSync(join(paths.log, 'runner.log'), 'utf8')).toContain('no such device');
});

test('waits for the line by which a process says that it is ready, also after it was started again', async () => {
  const said = join(dataDir, 'said');
  const script = `while [ ! -e ${said} ]; do sleep 0.02; done; echo '{"msg":"up"}'; sleep 300`;
  const { isReady: _, ...silent } = standIn('runner', script);
  const supervisor = supervise([], [{ ...silent, readyLine: /"msg":"up"/ }]);
  let isStarted = false;
  const starting = supervisor.start().then(() => (isStarted = true));
  await waitFor('the first start', () => started.length === 1);
  process.kill(started[0]?.pid as number, 'SIGKILL');
  await waitFor('the second start', () => started.length === 2);
  expect(isStarted).toBe(false);
  writeFileSync(said, '');
  await starting;
});

test('a program that does not exist is a clear error', async () => {
  const supervisor = supervise([{ ...standIn('redis'), command: '/no/such/program' }], []);
  await expect(supervisor.start()).rejects.toThrow(/redis ended 5 times[^]*no\/such\/program/);
});

test('kills a process that ignores SIGTERM, and what it started', async () => {
  const file = join(dataDir, 'child.pid');
  const script = `trap '' TERM; sleep 300 & echo $! > ${file}; echo start runner >> ${join(dataDir, 'journal')}; wait; sleep 300`;
  const supervisor = supervise([], [{ ...standIn('runner', script), stopMsMax: 200 }]);
  await supervisor.start();
  const childPid = Number(readFileSync(file, 'utf8'));
  expect(isAlive(childPid)).toBe(true);
  await supervisor.stop();
  expect(isAlive(started[0]?.pid as number)).toBe(false);
  await waitFor('the end of the grandchild', () => !isAlive(childPid));
});

test('stops while it is still starting', async () => {
  const slow = { ...standIn('redis'), isReady: async () => false };
  const supervisor = supervise([slow], [standIn('runner')]);
  const failed = expect(supervisor.start()).rejects.toThrow(/is being stopped/);
  await waitFor('the start of redis', () => started.length === 1);
  await supervisor.stop();
  await failed;
  expect(started.map(({ name }) => name)).toEqual(['redis']);
  expect(isAlive(started[0]?.pid as number)).toBe(false);
});

test('ends what a killed server left, and nobody whose pid was reused', async () => {
  const first = supervise([], [standIn('runner')]);
  await first.start();
  const left = started[0]?.pid as number;
  const second = supervise([], [standIn('runner')]);
  expect(await second.endLeftovers()).toBe(1);
  expect(isAlive(left)).toBe(false);
  await first.stop();
  const other = tryReadProcess(process.pid);
  writeFileSync(join(paths.run, 'runner.process.json'), JSON.stringify({ ...other, startTicks: 1 }));
  expect(await second.endLeftovers()).toBe(0);
});
