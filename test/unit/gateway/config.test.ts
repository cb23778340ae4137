import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ensureAdminTokenFile } from '../../../gateway/admin-token.ts';
import { loadGatewayConfig, publicUrlOf } from '../../../gateway/config.ts';

describe('public URL', () => {
  it.each([
    [{}, 'http://127.0.0.1:8080'],
    [{ SKIFF_GATEWAY_HOST: '0.0.0.0', SKIFF_GATEWAY_PORT: '9000' }, 'http://127.0.0.1:9000'],
    [{ SKIFF_GATEWAY_HOST: '::1' }, 'http://[::1]:8080'],
    [{ SKIFF_GATEWAY_PUBLIC_URL: 'https://skiff.example.org/' }, 'https://skiff.example.org'],
  ])('of %o is %s', (env, url) => expect(publicUrlOf(loadGatewayConfig(env))).toBe(url));
});

it.each([
  [{ SKIFF_GATEWAY_PORT: '0' }, 'SKIFF_GATEWAY_PORT'],
  [{ SKIFF_GATEWAY_PORT: 'http' }, 'SKIFF_GATEWAY_PORT'],
  [{ SKIFF_GATEWAY_PUBLIC_URL: 'ftp://x' }, 'SKIFF_GATEWAY_PUBLIC_URL'],
  [{ SKIFF_GATEWAY_PROT: '1' }, 'unknown setting SKIFF_GATEWAY_PROT'],
])('refuses %o and names the setting', (env, text) => {
  expect(() => loadGatewayConfig(env as Record<string, string>)).toThrow(text);
});

describe('admin token file', () => {
  let folder: string;
  beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), 'skiff-token-'))));
  afterEach(() => rm(folder, { recursive: true }));

  it('is made once, private, and read from then on', async () => {
    const file = join(folder, 'data', 'admin.token');
    const made = await ensureAdminTokenFile(file);
    expect(made.reveal()).toMatch(/^skiff_[\w-]{43}$/);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await ensureAdminTokenFile(file)).reveal()).toBe(made.reveal());
    expect(String(made)).toBe('[secret]');
  });

  it('is the same for all that start at once', async () => {
    const file = join(folder, 'admin.token');
    const all = await Promise.all([1, 2].map(() => ensureAdminTokenFile(file)));
    const stored = (await readFile(file, 'utf8')).trim();
    expect(all.map((token) => token.reveal())).toEqual([stored, stored]);
  });

  it('is refused when it is too short to be secret', async () => {
    const file = join(folder, 'admin.token');
    await writeFile(file, 'short\n');
    await expect(ensureAdminTokenFile(file)).rejects.toMatchObject({ code: 'INVALID_CONFIG' });
  });
});
