/**
 * What a base image holds beside packages, runtime and guest: accounts, resolver files, mount points.
 * There is no shell and no package manager in it, on purpose.
 */
import type { LayerEntry } from '../../infra/oci/layer-pack.ts';
import type { ImageConfig } from '../../infra/oci/manifest.ts';
import { runtimeEnv } from '../../infra/runtimes/catalog.ts';
import type { Runtime } from '../../infra/runtimes/contract.ts';

/** Must exist in a read-only root: things are mounted on them. */
const MOUNT_POINTS = ['proc', 'dev', 'sys', 'run/skiff', 'run/secrets', 'var/task', 'skiff'];

export const ROOT_FILES: readonly LayerEntry[] = [
  { path: 'etc/passwd', data: 'root:x:0:0:root:/:/nonexistent\napp:x:1000:1000:app:/tmp:/nonexistent\n' },
  { path: 'etc/group', data: 'root:x:0:\napp:x:1000:\n' },
  { path: 'etc/hosts', data: '127.0.0.1 localhost\n::1 localhost\n' },
  { path: 'etc/nsswitch.conf', data: 'passwd: files\ngroup: files\nhosts: files dns\n' },
  { path: 'etc/resolv.conf', data: '' },
  { path: 'tmp', directory: true, mode: 0o1777 },
  ...MOUNT_POINTS.map((path) => ({ path, directory: true as const })),
];

/** How another engine runs the image: as our runners do, but without a channel, so the guest serves HTTP. */
export function createBaseConfig(runtime: Runtime): NonNullable<ImageConfig['config']> {
  return {
    User: '1000',
    Env: Object.entries(runtimeEnv(runtime)).map(([name, value]) => `${name}=${value}`),
    Entrypoint: [...runtime.command()],
    WorkingDir: '/var/task',
    ExposedPorts: { '8080/tcp': {} },
  };
}
