/** `skiff build`: everything of a deploy up to the image, and a look at what is in it. */
import type { Command } from '@commander-js/extra-typings';
import type { BuildRecord } from '../../../client/index.ts';
import { openClient } from '../../connection/server.ts';
import { showEvent } from '../../deploy/follow.ts';
import { readBuildOptions } from '../../options/build.ts';
import { collect } from '../../options/parse.ts';
import { usage } from '../../failure.ts';
import { createProgress } from '../../output/progress.ts';
import { formatBytes, plural } from '../../output/quantities.ts';
import { type Column, printTable } from '../../output/table.ts';
import { chooseSubject } from '../../source/subject.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff build                                does this folder build? warnings say what would not work
  $ skiff build ./api --analyze                sizes by package, and who brought each in
  $ image=$(skiff build ./api)                 the image in the server's registry; unneeded, it is gone in an hour
`;

type Part = NonNullable<BuildRecord['report']>['parts'][number];

export function define(command: Command, session: Session): void {
  command
    .argument('[path]', 'file, folder, or - for a module or archive on standard input', '.')
    .option('-n, --name <name>', 'name of the function (default: of the package, file or folder)')
    .option('--entry <file>', 'module inside the folder that has the handler')
    .option('-f, --file <containerfile>', 'Containerfile inside the folder, in place of a handler')
    .option('--build-arg <name=value>', 'value of an ARG of the Containerfile', collect)
    .option('--target <stage>', 'stage of the Containerfile that becomes the image (default: the last)')
    .option('--build-network <policy>', 'what RUN steps of the Containerfile reach: as --network', collect)
    .option('--install-scripts', 'let packages run their install scripts, in the sandbox that installs them')
    .option('--runtime <runtime>', 'node:26, node:24, node:22, python:3.11 …')
    .option('-a, --analyze', 'show what the bundle consists of')
    .option('--json', 'print the build with its report')
    .addHelpText('after', EXAMPLES)
    .action(async (path, options) => {
      using subject = await chooseSubject(path, options, session);
      const name = options.name ?? subject.name;
      if (name === '') throw usage(`no name can be made of "${path}"`, 'give one: --name hello');
      const { output, signal } = session;
      const progress = createProgress(output.err, options.json === true && !output.err.isTty);
      progress.start('upload', subject.size);
      const record = await openClient(session)
        .buildImage(name, {
          ...subject.what,
          entry: options.file ?? options.entry ?? subject.entry,
          config: { runtime: options.runtime, build: readBuildOptions(options) },
          signal,
          onUploaded: (upload) => progress.done('upload', upload.ms, subject.size),
          onEvent: (event) => showEvent(progress, event),
        })
        .finally(() => progress.stop());
      if (options.json) output.json(record);
      else if (options.analyze) printReport(record, session);
      else output.out.line(record.image ?? '');
    });
}

function printReport({ report, image }: BuildRecord, { output }: Session): void {
  if (!report) {
    output.out.line(`${image ?? ''}: no bundle was made, so there is none to look into`);
    return;
  }
  const { bytes, modules, parts, partsLeftOut, externals, assets } = report;
  output.out.line(`${formatBytes(bytes)}, ${plural(modules, 'module')}, ${plural(assets, 'asset')}`);
  printTable(output.out, createColumns(bytes), parts);
  if (partsLeftOut > 0) output.out.line(`and ${partsLeftOut} smaller ones`);
  if (externals.length > 0) output.out.line(`beside the bundle, as packages: ${externals.join(', ')}`);
}

function createColumns(total: number): Column<Part>[] {
  return [
    { title: 'PART', value: (row) => row.name, isFlexible: true },
    { title: 'SIZE', value: (row) => formatBytes(row.bytes), align: 'right' },
    { title: 'SHARE', value: (row) => `${((100 * row.bytes) / total).toFixed(1)} %`, align: 'right' },
    { title: 'MODULES', value: (row) => String(row.modules), align: 'right' },
    { title: 'VIA', value: (row) => row.via.join(' → '), isFlexible: true },
  ];
}
