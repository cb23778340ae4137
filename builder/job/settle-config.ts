/**
 * The configuration of one deployment: defaults, below what the code says, below what the request says.
 * Invariant: it is parsed once, here, and complete afterwards. What a source says is remembered by its digest, so
 * that a source that was seen before need not be fetched to know its configuration.
 */
import type { SourceJob } from '../../infra/contract/jobs.ts';
import { type CodeConfig, mergeConfig } from '../../sdk/protocol/source/code-config.ts';
import { defaultRuntime } from '../../infra/runtimes/catalog.ts';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import { assertOwnNamespace } from '../../sdk/protocol/reach/namespaces.ts';
import { describeIssues, FunctionConfig } from '../../sdk/protocol/manifest.ts';
import type { BundlerEngine } from '../bundle/engine.ts';
import { readConfigInCode } from '../source/config-in-code.ts';
import { detectSource } from '../source/detect.ts';
import type { SourceLanguage } from '../source/kind.ts';
import type { FetchedSource } from '../compile/source.ts';
import { InputIndex, type RememberedConfig } from './input-index.ts';

export interface ConfigParts {
  readonly engine: BundlerEngine;
  readonly configs: InputIndex<RememberedConfig>;
}

/** Of deployments that are somebody's own image. */
export const IMAGE_RUNTIME = 'image';
/** Raised when more, or less, of a module counts as its configuration. */
const READER_VERSION = 2;

/** Undefined when this source has not been read before. @throws SkiffError INVALID_CONFIG */
export async function trySettleConfig(
  { configs }: ConfigParts,
  job: SourceJob,
): Promise<FunctionConfig | undefined> {
  const known = await configs.tryGet(keyOf(job));
  return known && parse(job, known.language, known.config === 'none' ? undefined : known.config);
}

/** @throws SkiffError INVALID_CONFIG, INVALID_SOURCE; the signal's reason. */
export async function settleConfig(parts: ConfigParts, source: FetchedSource): Promise<FunctionConfig> {
  const { job, tree, progress, signal } = source;
  // The configuration in the code may name another runtime, but not one of another language.
  const { language, entry } = await detectSource(tree, { entry: job.entry, runtime: job.config.runtime });
  const inCode =
    language === 'javascript'
      ? await readConfigInCode(parts.engine, tree.root, entry, signal, (text) => progress.log('warn', text))
      : undefined;
  if (inCode) progress.log('info', `config in ${entry}: ${Object.keys(inCode).join(', ')}`);
  const config = parse(job, language, inCode);
  await parts.configs.put(keyOf(job), { language, config: inCode ?? 'none' });
  return config;
}

function keyOf(job: SourceJob): string {
  return InputIndex.key([READER_VERSION, job.source.digest, job.entry ?? '', job.config.runtime ?? '']);
}

function parse(job: SourceJob, language: SourceLanguage, inCode: CodeConfig | undefined): FunctionConfig {
  const merged = mergeConfig(inCode ?? {}, job.config);
  const parsed = FunctionConfig.safeParse({
    ...merged,
    runtime: language === 'containerfile' ? IMAGE_RUNTIME : (merged.runtime ?? defaultRuntime(language).name),
  });
  if (parsed.success) return checkForSource(assertOwnNamespace(job.functionName, parsed.data));
  throw new SkiffError(
    'INVALID_CONFIG',
    describeIssues(
      parsed.error,
      inCode === undefined ? 'config' : 'config of the code and the deploy together',
    ),
  );
}

const OF_IMAGES = ['entrypoint', 'command', 'port', 'files'] as const;

/** Settings that say how the program of an image is started mean nothing to a handler. */
function checkForSource(config: FunctionConfig): FunctionConfig {
  const found = OF_IMAGES.find((name) => config[name] !== undefined);
  if (found === undefined || config.runtime === IMAGE_RUNTIME) return config;
  throw new SkiffError(
    'INVALID_CONFIG',
    `config.${found}: it is for images; a handler is started by its runtime, ${config.runtime}`,
  );
}
