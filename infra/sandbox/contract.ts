/**
 * What a sandbox is to those who use one (runner/pool, builder). The implementation beside this file alone knows
 * the OCI runtime's command line, cgroup files and the OCI configuration.
 */
import type { Readable } from 'node:stream';

export interface IdRange {
  readonly first: number;
  readonly size: number;
}

export interface VolumeImage {
  /** Hard limit of all that is in it; a smaller file grows, a larger one stays. */
  readonly bytesMax: number;
  /** What a new one begins with, as far as it is a real folder of the root file system. */
  readonly seed?: string;
}

export interface SandboxSpec {
  /** `sbx-…`; also the name of its folder, cgroup and OCI container. */
  readonly id: string;
  /** Unpacked root filesystem; mounted read-only. Several lower folders (topmost first) become an overlay. */
  readonly lowerDirs: readonly string[];
  /** From `allocateUid`; allocated by `launch` when absent. */
  readonly uid?: number;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly memoryBytes: number;
  /** Cores; fractions allowed. */
  readonly cpu: number;
  readonly pidsMax: number;
  /** Nobody waits for it: it has a tenth of a core's weight among sandboxes, in its start as well, until this resolves. */
  readonly background?: Promise<void>;
  readonly tmpBytes: number;
  readonly isolation: 'strict' | 'compat';
  /** Which of several runtimes; for whoever stands in front of several hosts. Absent: the default. */
  readonly runtimeClass?: string;
  /**
   * Builds images: its processes are root inside, over this range of host uids, with the capabilities and system calls
   * that takes (mounts, other users). The uid of its own then only names it. More of the kernel can be reached.
   */
  readonly builds?: IdRange;
  /** Runs scripts that compile: it may call what sets its ids, though it has but one. */
  readonly compiles?: boolean;
  /** Name of a network namespace (ip netns) to join; absent: an empty one of its own. */
  readonly networkNamespace?: string;
  /** Host folders to mount. Read-only ones are nosuid,nodev; writable ones are nosuid,nodev,noexec unless `exec`. */
  readonly mounts: readonly {
    readonly source: string;
    readonly target: string;
    readonly writable?: boolean;
    readonly exec?: boolean;
    /** rslave: later mounts below `source` appear inside, if it lies on a shared mount older than the host object. */
    readonly propagate?: boolean;
    /** `source` is a file that is or becomes an ext4 file system; its folder `data` is mounted, and given to the uid. */
    readonly volume?: VolumeImage;
  }[];
}

export interface SandboxExit {
  /** Container process's exit code, if known. */
  readonly code?: number;
  /** The kernel killed a process of it for memory. */
  readonly outOfMemory: boolean;
  /** We asked for it. */
  readonly killed: boolean;
}

export interface SandboxUsage {
  readonly memoryBytes: number;
  readonly cpuMs: number;
  readonly pids: number;
}

export interface Sandbox {
  readonly id: string;
  /** Container init's pid on the host. */
  readonly pid: number;
  /** The unique host uid and gid its processes run as: chown the channel folder to it. */
  readonly uid: number;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Settles once, when every process is gone and the container, cgroup, mounts and uid are given back. */
  readonly exited: Promise<SandboxExit>;
  setLimits(limits: { memoryBytes: number; cpu: number; pidsMax: number }): Promise<void>;
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  usage(): Promise<SandboxUsage>;
  /** SIGTERM if its first process handles that, and SIGKILL after `graceMs`; SIGKILL at once if it does not. */
  terminate(graceMs: number): void;
  /** SIGKILL to the whole pid namespace (thaws first). Idempotent; await `exited` for the end. */
  kill(): void;
}

export interface SandboxHost {
  /** Rejects with SkiffError COLD_START_FAILED and leaves nothing behind. */
  launch(spec: SandboxSpec): Promise<Sandbox>;
  /** Reserves the uid before launch so that folders can be chowned first. Released by the sandbox's end. */
  allocateUid(): number;
  /** Kills and removes everything a dead predecessor with the same state folder left: containers, cgroups, mounts. */
  reap(): Promise<{ containers: number; mounts: number; cgroups: number }>;
  close(): Promise<void>;
}
