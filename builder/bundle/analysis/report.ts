/**
 * Makes the report of a bundle out of esbuild's metafile: sizes by package, and the shortest way from the entry module
 * to each. Pure.
 */
import type { Metafile } from 'esbuild';
import type { BundleReport } from '../../../sdk/protocol/source/bundle-report.ts';

const PARTS_MAX = 200;
const PACKAGE = /^(?:.*\/)?node_modules\/((?:@[^/]+\/)?[^/]+)\//;

export interface ReportInput {
  readonly metafile: Metafile;
  readonly externals: readonly string[];
  readonly assets: number;
}

export function createReport({ metafile, externals, assets }: ReportInput): BundleReport {
  const output = Object.values(metafile.outputs).find(({ entryPoint }) => entryPoint !== undefined);
  const inputs = output?.inputs ?? {};
  const ways = findWays(metafile, output?.entryPoint ?? '');
  const parts = new Map<string, { bytes: number; modules: number; via: string[] }>();
  for (const [path, { bytesInOutput }] of Object.entries(inputs)) {
    if (bytesInOutput === 0) continue;
    const name = partOf(path);
    const way = ways.get(path) ?? [];
    const part = parts.get(name) ?? { bytes: 0, modules: 0, via: way };
    part.bytes += bytesInOutput;
    part.modules++;
    if (way.length < part.via.length) part.via = way;
    parts.set(name, part);
  }
  const sorted = [...parts]
    .map(([name, part]) => ({ name, ...part }))
    .sort((a, b) => b.bytes - a.bytes || (a.name < b.name ? -1 : 1));
  return {
    bytes: output?.bytes ?? 0,
    modules: Object.keys(inputs).length,
    parts: sorted.slice(0, PARTS_MAX),
    partsLeftOut: Math.max(0, sorted.length - PARTS_MAX),
    externals: [...externals],
    assets,
  };
}

/** A file of a package counts for the package. */
function partOf(path: string): string {
  return PACKAGE.exec(path)?.[1] ?? path.replace(/^skiff-[\w-]+:/, '');
}

/** For each module the parts between the entry and it, by the fewest imports. */
function findWays(metafile: Metafile, entry: string): Map<string, string[]> {
  const ways = new Map<string, string[]>([[entry, []]]);
  const queue = [entry];
  for (const path of queue) {
    const own = partOf(path);
    const before = ways.get(path) as string[];
    for (const { path: target, external } of metafile.inputs[path]?.imports ?? []) {
      if (external === true || ways.has(target)) continue;
      ways.set(target, partOf(target) === own || before.at(-1) === own ? before : [...before, own]);
      queue.push(target);
    }
  }
  return ways;
}
