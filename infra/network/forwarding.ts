/**
 * Forwarding between network devices, turned on for the devices that need it and never for the whole host
 * (net.ipv4.ip_forward stays as it is). Invariant: a device's setting is given back as it was when the last of this
 * host's runners that needs it closes; what a killed one left, the next one finds recorded and gives back.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { releaseClaim, tryClaim } from '../sandbox/claim.ts';

export interface Forwarding {
  /** Devices that forward because of us. */
  readonly changed: readonly string[];
  close(): void;
}

const knobOf = (device: string): string => `/proc/sys/net/ipv4/conf/${device}/forwarding`;

/** `dir` is shared by all runners of this host, `name` is this runner's own. */
export function openForwarding(devices: readonly string[], dir: string, name: string): Forwarding {
  const held: string[] = [];
  const changed: string[] = [];
  for (const device of devices) {
    const folder = join(dir, device);
    const before = readFileSync(knobOf(device), 'utf8').trim();
    const original = join(folder, 'original');
    if (before === '1' && !exists(original)) continue;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    if (!exists(original)) writeFileSync(original, before);
    tryClaim(join(folder, `${name}.claim`));
    held.push(device);
    changed.push(device);
    writeFileSync(knobOf(device), '1');
  }
  return {
    changed,
    close() {
      for (const device of held) giveBack(join(dir, device), device, name);
    },
  };
}

function giveBack(folder: string, device: string, name: string): void {
  releaseClaim(join(folder, `${name}.claim`));
  const others = readdirSync(folder).filter((file) => file.endsWith('.claim'));
  // A claim whose owner died can be taken, so it is nobody's.
  const living = others.filter((file) => {
    const path = join(folder, file);
    const isDead = tryClaim(path);
    if (isDead) releaseClaim(path);
    return !isDead;
  });
  if (living.length > 0) return;
  try {
    writeFileSync(knobOf(device), readFileSync(join(folder, 'original'), 'utf8'));
  } catch {
    // The device is gone, and its setting with it.
  }
  rmSync(folder, { recursive: true, force: true });
}

function exists(file: string): boolean {
  try {
    readFileSync(file);
    return true;
  } catch {
    return false;
  }
}
