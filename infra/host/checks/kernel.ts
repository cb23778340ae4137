/** What the kernel must offer for a sandbox to be one, and what of memory and disk there must be. */
import { statfsSync } from 'node:fs';
import { missing, ok, warning, type Check, type HostView } from './check.ts';

const GB = 1024 ** 3;

export function checkRoot(uid: number | undefined): Check {
  if (uid === 0) return ok('root', 'runs as root');
  return missing(
    'root',
    `runs as uid ${uid}; making containers needs root`,
    'run it with sudo, or in a root shell',
  );
}

export function checkUserNamespaces(view: HostView): Check {
  const max = view.tryRead('/proc/sys/user/max_user_namespaces');
  if (max === undefined)
    return missing(
      'user-namespaces',
      'the kernel has no user namespaces',
      'boot a kernel with CONFIG_USER_NS=y',
    );
  if (Number(max) > 0) return ok('user-namespaces', `up to ${max}`);
  return missing(
    'user-namespaces',
    'user namespaces are switched off',
    'sysctl -w user.max_user_namespaces=15000',
  );
}

export function checkOverlay(view: HostView): Check {
  const filesystems = view.tryRead('/proc/filesystems') ?? '';
  if (/\boverlay$/m.test(filesystems)) return ok('overlayfs', 'in the kernel');
  return missing(
    'overlayfs',
    'not in /proc/filesystems',
    'modprobe overlay, or boot a kernel with CONFIG_OVERLAY_FS',
  );
}

/** Functions need none of it. */
export async function checkVolumes(view: HostView): Promise<Check> {
  if (!view.list('/dev').includes('loop-control'))
    return warning(
      'volumes',
      'no loop devices, so services cannot have volumes here',
      'modprobe loop; in a container, give it /dev/loop-control and /dev/loop*',
    );
  if ((await view.tryRun('mkfs.ext4', ['-V'])) !== undefined)
    return ok('volumes', 'loop devices and mkfs.ext4');
  return warning(
    'volumes',
    'mkfs.ext4 is not installed, so services cannot have volumes here',
    'apt-get install --no-install-recommends e2fsprogs',
  );
}

export function checkSeccomp(view: HostView): Check {
  const actions = view.tryRead('/proc/sys/kernel/seccomp/actions_avail') ?? '';
  if (/\berrno\b/.test(actions) && /\bkill_process\b/.test(actions))
    return ok('seccomp', 'filters with errno and kill_process');
  return missing(
    'seccomp',
    'the kernel cannot filter system calls',
    'boot a kernel with CONFIG_SECCOMP_FILTER=y',
  );
}

export type CgroupMode = 'v1' | 'v2' | 'hybrid' | 'none';

const CONTROLLERS = ['cpu', 'memory', 'pids'];

/** Where the controllers are, from the mount table; `hybrid`: in v1 hierarchies, beside a cgroup2 without any. */
export function readCgroups(view: HostView): { mode: CgroupMode; missing: string[] } {
  const unified = view.tryRead('/sys/fs/cgroup/cgroup.controllers');
  if (unified !== undefined) {
    const present = unified.split(' ');
    return { mode: 'v2', missing: CONTROLLERS.filter((name) => !present.includes(name)) };
  }
  const mounts = (view.tryRead('/proc/self/mounts') ?? '').split('\n').map((line) => line.split(' '));
  const mounted = mounts
    .filter((fields) => fields[2] === 'cgroup')
    .flatMap((fields) => (fields[3] ?? '').split(','));
  const absent = CONTROLLERS.filter((name) => !mounted.includes(name));
  if (absent.length === CONTROLLERS.length) return { mode: 'none', missing: absent };
  return { mode: mounts.some((fields) => fields[2] === 'cgroup2') ? 'hybrid' : 'v1', missing: absent };
}

export function checkCgroups(view: HostView): Check {
  const { mode, missing: absent } = readCgroups(view);
  if (absent.length === 0) return ok('cgroups', `${mode}: ${CONTROLLERS.join(', ')}`);
  const fix =
    mode === 'v2'
      ? `enable them: echo '${absent.map((name) => `+${name}`).join(' ')}' > /sys/fs/cgroup/cgroup.subtree_control (or remove cgroup_disable= from the kernel's command line)`
      : 'mount the controllers below /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1';
  return missing('cgroups', `${mode}: no ${absent.join(', ')}; limits could not be enforced`, fix);
}

export function checkMemory(view: HostView): Check {
  const kilobytes = Number(/^MemTotal:\s+(\d+)/m.exec(view.tryRead('/proc/meminfo') ?? '')?.[1] ?? 0);
  const gigabytes = kilobytes / 1024 ** 2;
  const detail = `${gigabytes.toFixed(1)} GB`;
  if (gigabytes < 0.5) return missing('memory', detail, 'use a machine with 2 GB or more');
  if (gigabytes < 1.8) return warning('memory', detail, '2 GB or more leaves room for functions');
  return ok('memory', detail);
}

/** Longest mount point that holds `path`. */
function findMount(
  view: HostView,
  path: string,
): { point: string; type: string; options: string[] } | undefined {
  let best: { point: string; type: string; options: string[] } | undefined;
  for (const line of (view.tryRead('/proc/self/mounts') ?? '').split('\n')) {
    const [, point = '', type = '', options = ''] = line.split(' ');
    const isInside = path === point || path.startsWith(point === '/' ? '/' : `${point}/`);
    if (point !== '' && isInside && point.length >= (best?.point.length ?? 0))
      best = { point, type, options: options.split(',') };
  }
  return best;
}

const SOCKET_PATH_BYTES_MAX = 107;
/** The longest socket path below the data folder: one channel of one sandbox. */
const SOCKET_PATH_BELOW_BYTES = 60;

export function checkDataFolder(view: HostView, dataDir: string): Check {
  const id = 'data-folder';
  const mount = findMount(view, dataDir);
  const where = `${dataDir} (${mount?.type ?? 'unknown file system'})`;
  if (Buffer.byteLength(dataDir) + SOCKET_PATH_BELOW_BYTES > SOCKET_PATH_BYTES_MAX) {
    const bytesMax = SOCKET_PATH_BYTES_MAX - SOCKET_PATH_BELOW_BYTES;
    return missing(
      id,
      `${dataDir} is longer than ${bytesMax} bytes: unix sockets below it would not fit`,
      'set a shorter SKIFF_DATA_DIR',
    );
  }
  if (mount?.options.includes('ro'))
    return missing(id, `${where} is read-only`, 'set SKIFF_DATA_DIR to a folder on a writable disk');
  if (mount?.options.includes('noexec')) {
    return missing(
      id,
      `${where} is mounted noexec: no program of an image could run`,
      'set SKIFF_DATA_DIR to another disk',
    );
  }
  if (mount?.type === 'tmpfs')
    return warning(id, `${where} is lost at reboot`, 'set SKIFF_DATA_DIR to a folder on a disk');
  return ok(id, where);
}

export function checkDisk(dataDir: string): Check {
  let folder = dataDir;
  for (;;) {
    try {
      const { bavail, bsize } = statfsSync(folder);
      const free = bavail * bsize;
      const detail = `${(free / GB).toFixed(1)} GB free at ${folder}`;
      if (free < GB)
        return missing('disk', detail, 'free some space: base images and layers need 1 GB at least');
      return free < 5 * GB
        ? warning('disk', detail, '5 GB or more leaves room for images')
        : ok('disk', detail);
    } catch {
      // Not made yet: the folder above it tells. `/` always exists.
      folder = folder.slice(0, folder.lastIndexOf('/')) || '/';
    }
  }
}

/** Ports somebody listens on, from the kernel's tables. */
export function listeningPorts(view: HostView): Set<number> {
  const LISTEN = '0A';
  const lines = ['/proc/net/tcp', '/proc/net/tcp6'].flatMap((file) =>
    (view.tryRead(file) ?? '').split('\n').slice(1),
  );
  const rows = lines.map((line) => line.trim().split(/\s+/));
  const ports = rows
    .filter((row) => row[3] === LISTEN)
    .map((row) => Number.parseInt(row[1]?.split(':')[1] ?? '', 16));
  return new Set(ports);
}

export function checkPort(view: HostView, port: number, setting: string): Check {
  const id = `port-${port}`;
  if (!listeningPorts(view).has(port)) return ok(id, `free (${setting})`);
  return missing(
    id,
    `port ${port} is in use by another program`,
    `stop it (ss -ltnp 'sport = :${port}' shows it) or set ${setting}`,
  );
}
