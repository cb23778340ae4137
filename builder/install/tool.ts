/** What npm and pip have in common for an install: a plan, a way out, a command in a sandbox, and words of failure. */
import type { SourceTree } from '../source/tree.ts';
import type { MirrorSession } from './mirror.ts';
import type { ManagerName } from './npm/managers.ts';

export interface InstallPlan {
  /** Equal plans have equal keys, on every host of the same architecture. */
  readonly key: string;
  /** What is being run, for messages: `npm ci`. */
  readonly title: string;
  /** What the tool is given, relative to its folder. */
  readonly files: readonly { readonly path: string; readonly text: string }[];
  /** Of the tool itself, beside what every run of it has. */
  readonly args: readonly string[];
  /** Which package manager of its language runs; absent where there is one. */
  readonly manager?: ManagerName;
  /** Packages may run programs of theirs while they are installed. */
  readonly mayRunScripts?: boolean;
  /** Some dependencies are folders of the upload, which the tool links instead of copying. */
  readonly hasLocalPackages: boolean;
  readonly warnings: readonly string[];
}

export interface ToolCommand {
  /** Runtime whose base image it runs in. */
  readonly runtime: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Read-only folders of this host. */
  readonly mounts: readonly { readonly source: string; readonly target: string }[];
}

export interface PackageTool {
  readonly name: string;
  /** Undefined when the source needs no packages. @throws SkiffError INVALID_SOURCE for what cannot be installed */
  plan(tree: SourceTree, runtime: string, mayRunScripts: boolean): Promise<InstallPlan | undefined>;
  /** `socketPath` is what the command inside reaches as CHANNEL. */
  openMirror(socketPath: string, runtime: string): Promise<MirrorSession>;
  /** The tool in the folder /install/tree; `home` is /install/home. */
  command(plan: InstallPlan, runtime: string): Promise<ToolCommand>;
  /** Its error lines, in its words; undefined for a line that is none. */
  tryReadError(line: string, plan: InstallPlan): string | undefined;
  /** Where the image has the packages, when all that was installed goes there as one layer, packed once. */
  readonly layerPrefix?: string;
  /** A setting that an administrator can look at when its registry does not answer. */
  readonly setting: string;
}

/** Where a tool with `layerPrefix` puts the packages, in its folder. */
export const PACKAGES_FOLDER = 'packages';
/** Where the mirror's socket is inside. */
export const CHANNEL = '/skiff/channel/mirror.sock';
