import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openForwarding } from '../../../infra/network/forwarding.ts';

const DEVICE = `fwd${process.pid % 100_000}`;
const knob = `/proc/sys/net/ipv4/conf/${DEVICE}/forwarding`;
const read = (): string => readFileSync(knob, 'utf8').trim();
let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'skiff-forwarding-'));
  execFileSync('ip', ['link', 'add', DEVICE, 'type', 'veth', 'peer', 'name', `${DEVICE}p`]);
  writeFileSync(knob, '0');
});
afterEach(() => {
  execFileSync('ip', ['link', 'delete', DEVICE]);
  rmSync(dir, { recursive: true });
});

it('is on while somebody needs it and as it was when the last one has closed', () => {
  const host = readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8');
  const [one, two] = [openForwarding([DEVICE], dir, 'one'), openForwarding([DEVICE], dir, 'two')];
  expect([read(), one.changed, two.changed]).toEqual(['1', [DEVICE], [DEVICE]]);
  one.close();
  expect(read()).toBe('1');
  two.close();
  expect(read()).toBe('0');
  expect(readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8')).toBe(host);
});

it('what a killed one left is given back by the next', () => {
  openForwarding([DEVICE], dir, 'killed');
  // As after its death: a claim of a process that is no more.
  writeFileSync(join(dir, DEVICE, 'killed.claim'), '999999999 1');
  const next = openForwarding([DEVICE], dir, 'next');
  expect(next.changed).toEqual([DEVICE]);
  next.close();
  expect(read()).toBe('0');
});

it('a device that forwards anyway is left alone', () => {
  writeFileSync(knob, '1');
  const one = openForwarding([DEVICE], dir, 'one');
  expect(one.changed).toEqual([]);
  one.close();
  expect(read()).toBe('1');
});
