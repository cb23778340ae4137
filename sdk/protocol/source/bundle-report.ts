/** What went into a bundle and because of whom, for `skiff build --analyze`. */
import { z } from 'zod';

const Part = z.object({
  /** A package's name, or a file of the source. */
  name: z.string(),
  /** In the bundle, after dead code is gone. */
  bytes: z.number().int(),
  modules: z.number().int(),
  /** How it came in: from the entry module on, packages by their names, the last one imports it. */
  via: z.array(z.string()),
});

export const BundleReport = z.object({
  /** Of the module that runs, without its source map. */
  bytes: z.number().int(),
  modules: z.number().int(),
  /** Largest first. */
  parts: z.array(Part),
  /** How many more parts there are than are told. */
  partsLeftOut: z.number().int(),
  /** Packages that stay packages, for their compiled addons. */
  externals: z.array(z.string()),
  /** Files that the code reads at run time. */
  assets: z.number().int(),
});
export type BundleReport = z.output<typeof BundleReport>;
