/**
 * What a runtime is: how its base image is made, how its guest is started, and what sources it runs.
 * A runtime is one folder here with a `runtime.ts` whose default export is a list of these (one for each version);
 * nothing else in the platform names it. README.md says how to add one.
 * Invariant: everything in it is data, so that the inputs of a base image can be hashed and compared.
 */

/** What kind of source it runs; the builder has a way for each (builder/source, builder/install). */
export type Language = 'javascript' | 'python';

/** An executable out of an npm package that ships one, checked by the package's subresource integrity. */
export interface NpmProgram {
  /** By `process.arch`. */
  readonly packages: Readonly<Record<string, { readonly name: string; readonly integrity?: string }>>;
  readonly version: string;
  /** Path in the package and in the image. */
  readonly file: string;
  readonly path: string;
}

export interface BaseRecipe {
  /** Debian packages whose files the image has. */
  readonly packages: readonly string[];
  /** Files of the packages that are left out, beside documentation and the like; and files below usr/share to keep. */
  readonly without?: RegExp;
  readonly keep?: RegExp;
  readonly program?: NpmProgram;
  /** A command of the packages, run in the image's root folder before it is packed. It must be reproducible. */
  readonly prepare?: readonly string[];
}

/** The agent that speaks sdk/protocol/frame.ts: a module to bundle, or a folder to copy. Paths from the repository's top. */
export type GuestSource =
  | { readonly bundle: string; readonly target: string; readonly path: string }
  | { readonly folder: string; readonly path: string };

export interface Runtime {
  /** What `--runtime` says: `node:26`. */
  readonly name: string;
  readonly language: Language;
  /** For image metadata and logs: `Node 26.10.0`. */
  readonly title: string;
  readonly base: BaseRecipe;
  readonly guest: GuestSource;
  /** Starts the guest. `memoryBytes` is the sandbox's limit; absent where another engine runs the image. */
  readonly command: (memoryBytes?: number) => readonly string[];
  /** Beside PATH, HOME, TMPDIR and LANG. */
  readonly env: Readonly<Record<string, string>>;
  /** JavaScript: what esbuild compiles for, and the runtime whose base image has the Node that npm needs. */
  readonly bundleTarget?: string;
  readonly installsOn?: string;
  /** JavaScript: modules that the runtime has beside Node's, as esbuild's `external` says them. */
  readonly builtins?: readonly string[];
}
