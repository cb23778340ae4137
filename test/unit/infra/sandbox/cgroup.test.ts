import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createCgroupParent, parseCgroupLayout } from '../../../../infra/sandbox/cgroup/layout.ts';
import { V1_CONTROLLERS } from '../../../../infra/sandbox/cgroup/v1.ts';
import { SkiffError } from '../../../../sdk/protocol/errors.ts';

const MB = 1024 * 1024;
const limits = { memoryBytes: 128 * MB, cpu: 0.5, pidsMax: 64 };
let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'skiff-cgroup-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const put = (path: string, text: string | number): void => writeFileSync(join(root, path), `${text}\n`);
const get = (path: string): string => readFileSync(join(root, path), 'utf8').trim();
/** cgroupfs removes the control files with the folder; a plain file system wants them gone first. */
const emptyFolder = (path: string): void => {
  for (const name of readdirSync(join(root, path))) rmSync(join(root, path, name));
};

/** Lines as in /proc/self/mountinfo. */
const mount = (point: string, type: string, options: string): string =>
  `30 25 0:26 / ${join(root, point)} rw,nosuid,nodev,noexec,relatime shared:4 - ${type} ${type} ${options}`;
const V2 = (): string => mount('', 'cgroup2', 'rw,nsdelegate');
const V1 = (): string => V1_CONTROLLERS.map((name) => mount(name, 'cgroup', `rw,${name}`)).join('\n');

describe('layout', () => {
  test('tells v2, v1 and hybrid hosts apart', () => {
    expect(parseCgroupLayout(V2()).mode).toBe('v2');
    expect(parseCgroupLayout(V1()).mode).toBe('v1');
    expect(parseCgroupLayout(`${V1()}\n${mount('unified', 'cgroup2', 'rw')}`)).toMatchObject({
      mode: 'hybrid',
      unified: join(root, 'unified'),
    });
  });

  test('finds controllers that share one hierarchy', () => {
    const layout = parseCgroupLayout(
      `${mount('cpu,cpuacct', 'cgroup', 'rw,cpu,cpuacct')}\n${mount('memory', 'cgroup', 'rw,memory')}`,
    );
    expect(layout.v1).toEqual({
      cpu: join(root, 'cpu,cpuacct'),
      cpuacct: join(root, 'cpu,cpuacct'),
      memory: join(root, 'memory'),
    });
  });

  test('refuses a host without cgroups or with a controller missing, and names it', () => {
    expect(() => createCgroupParent(parseCgroupLayout(''), 'skiff', MB)).toThrow(/mount cgroup2/);
    expect(() =>
      createCgroupParent(parseCgroupLayout(mount('memory', 'cgroup', 'rw,memory')), 'skiff', MB),
    ).toThrow(/cpu, cpuacct, pids, devices, freezer are not mounted/);
  });
});

describe('v2', () => {
  beforeEach(() => {
    mkdirSync(join(root, 'skiff'));
    for (const folder of ['', 'skiff/']) {
      put(`${folder}cgroup.controllers`, 'cpuset cpu io memory pids');
      put(`${folder}cgroup.subtree_control`, folder === '' ? 'memory' : '');
      put(`${folder}memory.swap.max`, 'max');
    }
  });
  const open = () => createCgroupParent(parseCgroupLayout(V2()), 'skiff', 1024 * MB);

  test('hands down only what is not handed down yet, and caps all sandboxes together', () => {
    open();
    expect(get('cgroup.subtree_control')).toBe('+cpu +pids');
    expect(get('skiff/cgroup.subtree_control')).toBe('+cpu +memory +pids');
    expect(get('skiff/memory.max')).toBe(String(1024 * MB));
    expect(get('skiff/memory.swap.max')).toBe('0');
  });

  test('names the controllers a host does not have', () => {
    put('cgroup.controllers', 'cpu memory');
    put('cgroup.subtree_control', '');
    expect(open).toThrow(/lacks the controllers pids/);
  });

  test('writes every limit of a sandbox, and again when they change', () => {
    const cgroup = open().create('sbx-1', limits);
    expect(get('skiff/sbx-1/memory.max')).toBe(String(128 * MB));
    expect(get('skiff/sbx-1/cpu.max')).toBe('50000 100000');
    expect(get('skiff/sbx-1/cpu.weight')).toBe('50');
    expect(get('skiff/sbx-1/pids.max')).toBe('64');
    expect(get('skiff/sbx-1/memory.oom.group')).toBe('1');
    cgroup.setLimits({ memoryBytes: 64 * MB, cpu: 2, pidsMax: 10 });
    expect([get('skiff/sbx-1/memory.max'), get('skiff/sbx-1/cpu.max'), get('skiff/sbx-1/pids.max')]).toEqual([
      String(64 * MB),
      '200000 100000',
      '10',
    ]);
    expect(cgroup.joinFiles).toEqual([join(root, 'skiff/sbx-1/cgroup.procs')]);
  });

  test('never asks for less CPU than the kernel takes, nor for more weight', () => {
    const cgroup = open().create('sbx-1', { ...limits, cpu: 0.000_1 });
    expect([get('skiff/sbx-1/cpu.max'), get('skiff/sbx-1/cpu.weight')]).toEqual(['1000 100000', '1']);
    cgroup.setLimits({ ...limits, cpu: 500 });
    expect(get('skiff/sbx-1/cpu.weight')).toBe('10000');
    cgroup.setLimits({ ...limits, isBackground: true });
    expect([get('skiff/sbx-1/cpu.max'), get('skiff/sbx-1/cpu.weight')]).toEqual(['50000 100000', '10']);
    cgroup.setWeight(1);
    expect(get('skiff/sbx-1/cpu.weight')).toBe('100');
  });

  test('freezes, waits until the kernel says so, and thaws', async () => {
    const cgroup = open().create('sbx-1', limits);
    put('skiff/sbx-1/cgroup.events', 'populated 1\nfrozen 0');
    const frozen = cgroup.freeze();
    expect(get('skiff/sbx-1/cgroup.freeze')).toBe('1');
    put('skiff/sbx-1/cgroup.events', 'populated 1\nfrozen 1');
    await frozen;
    cgroup.thaw();
    expect(get('skiff/sbx-1/cgroup.freeze')).toBe('0');
  });

  test('gives up on a group that does not freeze, and says which', async () => {
    const cgroup = open().create('sbx-1', limits);
    put('skiff/sbx-1/cgroup.events', 'populated 1\nfrozen 0');
    await expect(cgroup.freeze()).rejects.toThrow(/freezing sandbox sbx-1 took longer/);
  });

  test('reads use and kills for memory', () => {
    const cgroup = open().create('sbx-1', limits);
    expect([cgroup.ranOutOfMemory(137), cgroup.usage()]).toEqual([
      false,
      { memoryBytes: 0, cpuMs: 0, pids: 0 },
    ]);
    put('skiff/sbx-1/memory.events', 'low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 1');
    put('skiff/sbx-1/memory.current', 50 * MB);
    put('skiff/sbx-1/memory.stat', `anon 1\ninactive_file ${20 * MB}\nactive_file 5`);
    put('skiff/sbx-1/cpu.stat', 'usage_usec 1500000\nuser_usec 1');
    put('skiff/sbx-1/pids.current', 7);
    expect(cgroup.ranOutOfMemory(undefined)).toBe(true);
    expect(cgroup.usage()).toEqual({ memoryBytes: 30 * MB, cpuMs: 1500, pids: 7 });
  });

  test('lists its children and removes them', async () => {
    const parent = open();
    const cgroup = parent.create('sbx-1', limits);
    parent.create('sbx-2', limits);
    expect(parent.list().sort()).toEqual(['sbx-1', 'sbx-2']);
    emptyFolder('skiff/sbx-1');
    await cgroup.remove();
    await cgroup.remove();
    expect(parent.list()).toEqual(['sbx-2']);
  });
});

describe('v1', () => {
  beforeEach(() => {
    for (const name of V1_CONTROLLERS) mkdirSync(join(root, name, 'skiff', 'sbx-1'), { recursive: true });
  });
  const open = () => createCgroupParent(parseCgroupLayout(V1()), 'skiff', 1024 * MB);

  test('writes every limit of a sandbox, device rules included', () => {
    const cgroup = open().create('sbx-1', limits);
    expect(get('memory/skiff/memory.limit_in_bytes')).toBe(String(1024 * MB));
    expect(get('memory/skiff/sbx-1/memory.limit_in_bytes')).toBe(String(128 * MB));
    expect(get('cpu/skiff/sbx-1/cpu.cfs_quota_us')).toBe('50000');
    expect(get('cpu/skiff/sbx-1/cpu.shares')).toBe('512');
    cgroup.setLimits({ ...limits, isBackground: true });
    expect(get('cpu/skiff/sbx-1/cpu.shares')).toBe('102');
    cgroup.setWeight(1);
    expect(get('cpu/skiff/sbx-1/cpu.shares')).toBe('1024');
    expect(get('pids/skiff/sbx-1/pids.max')).toBe('64');
    expect(get('devices/skiff/sbx-1/devices.deny')).toBe('a');
    expect(get('devices/skiff/sbx-1/devices.allow')).toBe('c 1:9 rw');
    expect(cgroup.joinFiles).toEqual(V1_CONTROLLERS.map((name) => join(root, name, 'skiff/sbx-1/tasks')));
  });

  test('limits memory with swap only where the kernel counts swap', () => {
    const files = (): string[] =>
      readdirSync(join(root, 'memory/skiff/sbx-1')).filter((name) => name.startsWith('memory.'));
    open().create('sbx-1', limits);
    expect(files()).toEqual(['memory.limit_in_bytes']);
    put('memory/skiff/sbx-1/memory.memsw.limit_in_bytes', '9223372036854771712');
    open()
      .open('sbx-1')
      .setLimits({ ...limits, memoryBytes: 64 * MB });
    expect(get('memory/skiff/sbx-1/memory.memsw.limit_in_bytes')).toBe(String(64 * MB));
  });

  test('is thawed before it is killed, frozen until the kernel says so', async () => {
    const cgroup = open().create('sbx-1', limits);
    const frozen = cgroup.freeze();
    expect(get('freezer/skiff/sbx-1/freezer.state')).toBe('FROZEN');
    await frozen;
    put('freezer/skiff/sbx-1/freezer.state', 'FREEZING');
    await cgroup.killAll();
    expect(get('freezer/skiff/sbx-1/freezer.state')).toBe('THAWED');
  });

  test('reads use and kills for memory', () => {
    const cgroup = open().create('sbx-1', limits);
    put('memory/skiff/sbx-1/memory.oom_control', 'oom_kill_disable 0\nunder_oom 0\noom_kill 3');
    put('memory/skiff/sbx-1/memory.usage_in_bytes', 50 * MB);
    put('memory/skiff/sbx-1/memory.stat', `cache 1\ntotal_inactive_file ${20 * MB}`);
    put('cpuacct/skiff/sbx-1/cpuacct.usage', 1_500_000_000);
    put('pids/skiff/sbx-1/pids.current', 7);
    expect(cgroup.ranOutOfMemory(undefined)).toBe(true);
    expect(cgroup.usage()).toEqual({ memoryBytes: 30 * MB, cpuMs: 1500, pids: 7 });
  });

  test('lists children of every hierarchy, also half-made ones, and removes all folders', async () => {
    const parent = open();
    mkdirSync(join(root, 'pids/skiff/sbx-2'));
    expect(parent.list().sort()).toEqual(['sbx-1', 'sbx-2']);
    for (const name of ['sbx-1', 'sbx-2']) await parent.open(name).remove();
    expect(parent.list()).toEqual([]);
    expect(existsSync(join(root, 'memory/skiff/sbx-1'))).toBe(false);
  });

  test('a limit the kernel refuses is an error that names value and file', () => {
    const cgroup = open().create('sbx-1', limits);
    rmSync(join(root, 'pids/skiff/sbx-1'), { recursive: true });
    expect(() => cgroup.setLimits(limits)).toThrow(SkiffError);
    expect(() => cgroup.setLimits(limits)).toThrow(/the kernel refused 64 for .*pids\.max: ENOENT/);
  });
});
