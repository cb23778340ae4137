/**
 * The configuration of a function: one schema for CLI flags, the API, code (`defineFunction`) and compose files.
 * Invariant: a parsed config has every field; nothing downstream fills in defaults.
 */
import { z } from 'zod';
import { tryParseEgressEntry } from './reach/egress.ts';
import { Constraint } from './swarm/constraint.ts';
import * as limits from './limits.ts';
import { tryParseBytes, tryParseMs } from './units.ts';

const NAME = '[a-z](?:[a-z0-9-]*[a-z0-9])?';
export const NAME_PATTERN = new RegExp(`^${NAME}$`);
/** `name`, or `namespace.name` (see namespaces.ts). */
export const FUNCTION_NAME_PATTERN = new RegExp(`^(?:${NAME}\\.)?${NAME}$`);

const name = (pattern: RegExp) =>
  z
    .string()
    .max(limits.FUNCTION_NAME_LENGTH_MAX, `a name has at most ${limits.FUNCTION_NAME_LENGTH_MAX} characters`)
    .regex(
      pattern,
      'a name has lower-case letters, digits and "-", begins with a letter and does not end with "-"',
    );

/** With its namespace, if it has one: 63 characters in all. */
export const FunctionName = name(FUNCTION_NAME_PATTERN);
export const NamespaceName = name(NAME_PATTERN);

function bytes(min: number, max: number) {
  return z.union([z.string(), z.number()]).transform((value, context) => {
    const parsed = tryParseBytes(value);
    if (parsed === undefined) {
      context.addIssue({
        code: 'custom',
        message: `"${value}" is not a size; write 256MB, 1GB or a number of bytes`,
      });
      return z.NEVER;
    }
    if (parsed < min || parsed > max) {
      context.addIssue({
        code: 'custom',
        message: `${value} is outside ${min / 1024 ** 2} MB to ${max / 1024 ** 2} MB`,
      });
      return z.NEVER;
    }
    return parsed;
  });
}

function duration(min: number, max: number) {
  return z.union([z.string(), z.number()]).transform((value, context) => {
    const parsed = tryParseMs(value);
    if (parsed === undefined) {
      context.addIssue({
        code: 'custom',
        message: `"${value}" is not a duration; write 30s, 500ms, 5m or milliseconds`,
      });
      return z.NEVER;
    }
    if (parsed < min || parsed > max) {
      context.addIssue({ code: 'custom', message: `${value} is outside ${min} ms to ${max} ms` });
      return z.NEVER;
    }
    return parsed;
  });
}

const EnvName = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'an environment name has letters, digits and "_"');

/** What a platform sets itself or what would change how the runtime starts. */
const RESERVED_ENV = /^(?:SKIFF_.*|LD_.*|NODE_OPTIONS|PATH|HOME|PORT)$/;

export const SecretName = z
  .string()
  .max(63)
  .regex(/^[A-Za-z_][A-Za-z0-9_-]*$/, 'a secret\u2019s name has letters, digits, "_" and "-"')
  .refine((name) => !RESERVED_ENV.test(secretEnvName(name)), 'the platform sets a variable of this name');

/** As it is stored: with its namespace, if it has one. Functions name it without. */
export const StoredSecretName = z.string().superRefine((whole, context) => {
  const at = whole.indexOf('.');
  const parts = [SecretName.safeParse(whole.slice(at + 1))];
  if (at !== -1) parts.push(NamespaceName.safeParse(whole.slice(0, at)));
  for (const { error } of parts)
    if (error) context.addIssue({ code: 'custom', message: error.issues[0]?.message });
});

/** The environment variable that a secret arrives in, besides the file /run/secrets/<name>. */
export function secretEnvName(name: string): string {
  return name.replaceAll('-', '_').toUpperCase();
}

const EgressTarget = z
  .string()
  .min(1)
  .max(255)
  .refine(
    (text) => tryParseEgressEntry(text) !== undefined,
    'an allow list has host:port, *.host:port, or an IPv4 address or range with or without :port',
  );

export const Network = z.union([
  z.enum(['none', 'internet']),
  z.strictObject({ allow: z.array(EgressTarget).min(1).max(100) }),
]);
export type Network = z.output<typeof Network>;

/**
 * Who is told how an asynchronous invocation ended: another function, a URL by a signed webhook, or a BullMQ queue of the
 * durable store.
 */
export const Destination = z.union([
  z.strictObject({ function: FunctionName }),
  z.strictObject({
    url: z.url({ protocol: /^https?$/ }).max(limits.URL_BYTES_MAX),
    /** Name of the secret that signs (Standard Webhooks); absent: not signed. */
    secret: z.string().min(1).max(63).optional(),
  }),
  /** Its name has the function's namespace, as a function's would. */
  z.strictObject({ queue: FunctionName }),
]);
export type Destination = z.output<typeof Destination>;

/** How asynchronous invocations of the function are run. */
export const AsyncConfig = z.strictObject({
  /** Tries after the first one that failed by the function's own fault. */
  retries: z.coerce
    .number<number | string>()
    .int()
    .min(0)
    .max(limits.EVENT_RETRIES_MAX)
    .default(limits.EVENT_RETRIES_DEFAULT),
  /** Before the first retry; doubled for each one after it, with jitter. */
  backoff: duration(0, limits.EVENT_BACKOFF_MS_MAX).default(limits.EVENT_BACKOFF_MS_DEFAULT),
  maxAge: duration(1_000, limits.EVENT_AGE_MS_MAX).default(limits.EVENT_AGE_MS_DEFAULT),
  /** At once, on all hosts together. Absent: as many as its sandboxes have slots. */
  concurrency: z.coerce.number<number | string>().int().min(1).max(limits.EVENTS_WINDOW_MAX).optional(),
  /** Starts a second. Absent: no limit. */
  rate: z.coerce.number<number | string>().positive().max(100_000).optional(),
  /** When one has succeeded, and when one is dead or has expired. */
  onSuccess: Destination.optional(),
  onFailure: Destination.optional(),
  /** How long results can be read. */
  keepResults: duration(0, limits.RECORD_KEPT_MS).default(limits.RESULT_KEPT_MS_DEFAULT),
});
export type AsyncConfig = z.output<typeof AsyncConfig>;

/**
 * `family` or `family:version`. Which ones there are a server knows and says when it refuses one; `image` is an image
 * that listens on $PORT.
 */
export const RuntimeName = z
  .string()
  .max(63)
  .regex(/^[a-z][a-z0-9-]*(?::[a-z0-9.]+)?$/, 'a runtime is a name like node:26 or python:3.11');
const RUNTIME_DEFAULT = 'node:26';

const CallTarget = z
  .string()
  .regex(
    new RegExp(`^(?:${NAME}=)?(?:${NAME}\\.)?${NAME}$`),
    'a call is declared by the name of a function, or as alias=name',
  )
  .max(2 * limits.FUNCTION_NAME_LENGTH_MAX + 1);

/** `resize` or `resize=shop-resize`: what the caller says, and the function that it means. */
export function parseCallTarget(text: string): { readonly alias: string; readonly name: string } {
  const [alias = '', name = alias] = text.split('=');
  return { alias, name };
}

const Words = z.array(z.string().max(8_192)).min(1).max(256);

const PORT_TEXT = `programs in a sandbox have no rights to listen below ${limits.PORT_MIN}; configure another port`;

/** What is wrong with the path of a file that is put into an image; undefined when nothing is. */
function findPathFault(path: string): string | undefined {
  if (!/^(?:\/[\w.+@-]+)+$/.test(path) || /\/\.{1,2}(?:\/|$)/.test(path))
    return 'a path is absolute, of letters, digits and ._+@-, without . and .. in it';
  return /^\/(?:proc|sys|dev|tmp|run)(?:\/|$)/.test(path)
    ? '/proc, /sys, /dev, /tmp and /run are the platform\u2019s'
    : undefined;
}

/** A volume of a service: kept on the node that holds it, see resources.ts. */
const VolumeMount = z.strictObject({
  /** With the function's namespace in front of it, as a function's name would. */
  name: FunctionName,
  /** Where the program finds it. */
  target: z
    .string()
    .max(1_024)
    .superRefine((path, context) => {
      const message = findPathFault(path);
      if (message !== undefined) context.addIssue({ code: 'custom', message });
    }),
  /** Grows when this is raised; never shrinks. */
  size: bytes(limits.VOLUME_BYTES_MIN, limits.VOLUME_BYTES_MAX).default(limits.VOLUME_BYTES_DEFAULT),
});
export type VolumeMount = z.output<typeof VolumeMount>;

const isWithin = (path: string, folder: string): boolean => `${path}/`.startsWith(`${folder}/`);
/** What a build may do, and is told. It is part of the deployment, so no place for secrets. */
export const BuildConfig = z.strictObject({
  /**
   * Packages of npm may run their install scripts, in the sandbox that installs them: it has a shell and compilers, and
   * reaches the package registry alone.
   */
  installScripts: z.union([z.boolean(), z.stringbool()]).default(false),
  /** Containerfiles: values of their `ARG`s. */
  args: z
    .record(z.string().regex(/^[A-Za-z_]\w*$/, 'is no name of an ARG'), z.string().max(8_192))
    .refine(
      (args) => Object.keys(args).length <= limits.BUILD_ARGS_MAX,
      `at most ${limits.BUILD_ARGS_MAX} arguments`,
    )
    .default({}),
  /** Containerfiles: the stage that becomes the image; absent: the last one. */
  target: z
    .string()
    .max(128)
    .regex(/^[A-Za-z0-9][\w.-]*$/, 'is the name of a stage, or its number')
    .optional(),
  /** Containerfiles: what their `RUN` steps reach, as `network` says it of functions. */
  network: Network.default('none'),
});
export type BuildConfig = z.output<typeof BuildConfig>;

/** Every field has a default, so `FunctionConfig.parse({})` is the default configuration. */
export const FunctionConfig = z.strictObject({
  runtime: RuntimeName.default(RUNTIME_DEFAULT),
  memory: bytes(limits.MEMORY_BYTES_MIN, limits.MEMORY_BYTES_MAX).default(limits.MEMORY_BYTES_DEFAULT),
  cpu: z.coerce.number<number | string>().min(limits.CPU_MIN).max(limits.CPU_MAX).default(1),
  /** Whole duration of an invocation. */
  timeout: duration(10, limits.TIMEOUT_MS_MAX).default(limits.TIMEOUT_MS_DEFAULT),
  /** Until the response head. Defaults to `timeout`. */
  firstByteTimeout: duration(10, limits.TIMEOUT_MS_MAX).optional(),
  /** Between two pieces of a response body. Defaults to `timeout`. */
  idleTimeout: duration(10, limits.TIMEOUT_MS_MAX).optional(),
  concurrency: z.coerce
    .number<number | string>()
    .int()
    .min(1)
    .max(limits.CONCURRENCY_MAX)
    .default(limits.CONCURRENCY_DEFAULT),
  min: z.coerce.number<number | string>().int().min(0).max(limits.SANDBOXES_PER_FUNCTION_MAX).default(0),
  max: z.coerce
    .number()
    .int()
    .min(1)
    .max(limits.SANDBOXES_PER_FUNCTION_MAX)
    .default(limits.SANDBOXES_PER_FUNCTION_DEFAULT),
  /** Images that listen on $PORT: a path that answers below 500 when they are ready. Absent: a connection is enough. */
  readyPath: z
    .string()
    .max(256)
    .regex(/^\/[\x21-\x7e]*$/, 'is a path that begins with "/"')
    .optional(),
  /** Images: what is started in place of their ENTRYPOINT, whose CMD then counts no more, and of their CMD. */
  entrypoint: Words.optional(),
  command: Words.optional(),
  /** Images: where they listen, which is also what $PORT says. */
  port: z.coerce.number().int().min(limits.PORT_MIN, PORT_TEXT).max(65_535).optional(),
  /** Images: files to be put into them, by their paths. Everybody who may read the deployment may read them. */
  files: z
    .record(z.string().max(1_024), z.string())
    .superRefine((files, context) => {
      const size = Object.values(files).reduce((sum, text) => sum + text.length, 0);
      if (size > limits.FILES_BYTES_MAX)
        context.addIssue({
          code: 'custom',
          message: `${size} bytes; the limit is ${limits.FILES_BYTES_MAX}`,
        });
      for (const path of Object.keys(files)) {
        const message = findPathFault(path);
        if (message !== undefined) context.addIssue({ code: 'custom', path: [path], message });
      }
    })
    .optional(),
  /**
   * Images: folders that are kept when the sandbox ends. They are a service's, and of its one replica; where a deployment
   * is no service's (also when it is tried before it goes live), each sandbox has empty ones that end with it.
   */
  volumes: z
    .array(VolumeMount)
    .max(limits.VOLUMES_PER_FUNCTION_MAX)
    .superRefine((volumes, context) => {
      for (const [index, { name: own, target }] of volumes.entries()) {
        const others = volumes.slice(0, index);
        const isTaken = others.some(
          (one) => one.name === own || isWithin(one.target, target) || isWithin(target, one.target),
        );
        if (isTaken)
          context.addIssue({
            code: 'custom',
            path: [index],
            message: 'each volume is mounted once, and not inside of another',
          });
      }
    })
    .optional(),
  /**
   * Percent of failed calls by which a new deployment may exceed the one before it; then that one is live again.
   * 0: never.
   */
  rollbackAt: z.coerce.number<number | string>().int().min(0).max(100).default(50),
  /** How long an idle sandbox is kept. */
  keepAlive: duration(0, 86_400_000).default(limits.KEEP_ALIVE_MS_DEFAULT),
  maxBody: bytes(0, 16 * 1024 ** 3).default(limits.BODY_BYTES_MAX),
  env: z
    .record(EnvName, z.string())
    .default({})
    .superRefine((env, context) => {
      const names = Object.keys(env);
      if (names.length > limits.ENV_COUNT_MAX) {
        context.addIssue({
          code: 'custom',
          message: `${names.length} variables; the limit is ${limits.ENV_COUNT_MAX}`,
        });
      }
      for (const name of names) {
        if (RESERVED_ENV.test(name)) {
          context.addIssue({ code: 'custom', path: [name], message: `${name} is set by the platform` });
        }
      }
      const size = names.reduce((sum, name) => sum + name.length + (env[name] as string).length, 0);
      if (size > limits.ENV_BYTES_MAX) {
        context.addIssue({ code: 'custom', message: `${size} bytes; the limit is ${limits.ENV_BYTES_MAX}` });
      }
    }),
  /** Names of secrets that it is given, as variables and as files of /run/secrets. */
  secrets: z.array(SecretName).max(limits.SECRETS_PER_FUNCTION_MAX).default([]),
  /** Functions it may call by `ctx.invoke` and `fetch('http://<name>.skiff')`, each `name` or `alias=name`. */
  calls: z.array(CallTarget).max(limits.CALL_TARGETS_MAX).default([]),
  /** How its image is made. */
  build: BuildConfig.prefault({}),
  network: Network.default('none'),
  access: z.enum(['public', 'private']).default('public'),
  isolation: z.enum(['strict', 'compat']).default('strict'),
  /** OCI runtime of its sandboxes: `default` is the server's, others are named in SKIFF_RUNTIME_CLASSES. */
  runtimeClass: z
    .string()
    .regex(/^[a-z0-9-]{1,32}$/)
    .default('default'),
  labels: z
    .record(z.string().max(63), z.string().max(253))
    .refine(
      (labels) => Object.keys(labels).length <= limits.LABELS_COUNT_MAX,
      `at most ${limits.LABELS_COUNT_MAX} labels`,
    )
    .default({}),
  async: AsyncConfig.prefault({}),
  /** Of the nodes that may run it, for example `node.labels.zone==a`; all must hold. */
  constraints: z.array(Constraint).max(32).default([]),
});
export type FunctionConfig = z.output<typeof FunctionConfig>;
export type FunctionConfigInput = z.input<typeof FunctionConfig>;

/** First problem of a failed parse as one sentence: `config.memory: "x" is not a size; …`. */
export function describeIssues(error: z.ZodError, root = 'config'): string {
  return error.issues
    .slice(0, 3)
    .map((issue) => `${clip([root, ...issue.path].join('.'))}: ${clip(issue.message)}`)
    .join('; ');
}

/** Of a text that repeats what somebody sent: ten thousand unknown names would be an answer of half a megabyte. */
export function clip(text: string): string {
  return text.length <= CLIPPED_LENGTH ? text : `${text.slice(0, CLIPPED_LENGTH)}…`;
}

const CLIPPED_LENGTH = 300;
