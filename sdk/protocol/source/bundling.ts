/**
 * What a function's files mean when they are bundled, the same for a deploy (builder/bundle) and for local
 * development: which files are text or bytes when they are imported, and whose JSX it is.
 */
const TEXT = [
  '.txt',
  '.md',
  '.html',
  '.htm',
  '.css',
  '.sql',
  '.graphql',
  '.gql',
  '.xml',
  '.svg',
  '.csv',
  '.yaml',
  '.yml',
];
const BINARY = [
  '.wasm',
  '.bin',
  '.dat',
  '.png',
  '.jpg',
  '.jpeg',
  '.gif',
  '.webp',
  '.avif',
  '.ico',
  '.woff',
  '.woff2',
  '.ttf',
  '.otf',
  '.pdf',
  '.zip',
  '.gz',
];

/** esbuild's names for what an import of such a file gives. */
export const ASSET_LOADERS: Record<string, 'text' | 'binary' | 'json' | 'copy'> = {
  ...Object.fromEntries(TEXT.map((extension) => [extension, 'text' as const])),
  ...Object.fromEntries(BINARY.map((extension) => [extension, 'binary' as const])),
  '.json': 'json',
  '.node': 'copy',
};

/** React unless the project has exactly another one of the known JSX libraries. */
export function chooseJsxImportSource(dependencies: Readonly<Record<string, string>> | undefined): string {
  const has = (name: string): boolean => Object.hasOwn(dependencies ?? {}, name);
  if (has('react')) return 'react';
  if (has('preact')) return 'preact';
  if (has('solid-js')) return 'solid-js/h';
  return has('hono') ? 'hono/jsx' : 'react';
}
