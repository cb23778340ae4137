/** `skiff map`: a function over every line of a file, as events: it survives this terminal, and the server's restarts. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from '@commander-js/extra-typings';
import { openClient } from '../../connection/server.ts';
import { CliFailure, ExitCode, usage } from '../../failure.ts';
import { createBar } from '../../map/bar.ts';
import { readInputs } from '../../map/input-file.ts';
import { isGood, ResultFile } from '../../map/result-file.ts';
import { isDone, runMap } from '../../map/run.ts';
import { parseCount } from '../../options/parse.ts';
import { plural } from '../../output/quantities.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff map resize inputs.jsonl                   each line is the body of one event; results in inputs.results.jsonl
  $ skiff map resize inputs.jsonl -c 50             50 at a time
  $ skiff map resize inputs.jsonl                   again after Ctrl-C: goes on with what is left
  $ skiff map resize inputs.jsonl --retry-failed    after the repair: what failed, once more
  $ skiff map score inputs.jsonl -o - | jq .result  results to standard output

Exit code: 0, 4 when some inputs have failed, 130 after Ctrl-C.
`;
const CONCURRENCY = 16;
const CONCURRENCY_MAX = 1_000;

export function define(command: Command, session: Session): void {
  command
    .argument('<function>', 'name of the function')
    .argument('<inputs>', 'file with one JSON value a line')
    .option('-c, --concurrency <count>', 'inputs at a time', parseCount, CONCURRENCY)
    .option(
      '-o, --output <file>',
      'where results go, as JSON lines; - for standard output, which cannot be resumed',
    )
    .option('--path <path>', 'path and query the function sees', '/')
    .option('--retry-failed', 'run inputs again whose results are failures')
    .addHelpText('after', EXAMPLES)
    .action(async (name, file, options) => {
      const path = resolve(session.cwd, file);
      if (!existsSync(path)) throw usage(`${path} does not exist`);
      const { concurrency } = options;
      if (concurrency < 1 || concurrency > CONCURRENCY_MAX)
        throw usage(`${concurrency} at a time`, `give 1 to ${CONCURRENCY_MAX}`);
      const isStdout = options.output === '-';
      const output = options.output ?? file.replace(/\.jsonl?$/, '') + '.results.jsonl';
      const results = await ResultFile.open(isStdout ? '/dev/null' : resolve(session.cwd, output), name);
      const retriesFailed = options.retryFailed === true;
      const { total, done } = await survey(path, results, retriesFailed);
      const bar = createBar(session.output.err, total, done);
      try {
        await runMap(readInputs(path), results, {
          client: openClient(session),
          functionName: name,
          path: options.path,
          concurrency,
          retriesFailed,
          signal: session.signal,
          onResult(result) {
            bar.add(isGood(result));
            if (isStdout) session.output.out.line(JSON.stringify(result));
          },
        });
      } catch (error) {
        if (session.signal.aborted && !isStdout)
          session.output.err.line(`stopped; the same command goes on where it was (results in ${output})`);
        throw error;
      } finally {
        bar.stop();
        if (!isStdout) await results.close(name);
      }
      report(session, results, isStdout ? undefined : output);
    });
}

/** How many inputs there are, and how many need nothing. @throws CliFailure when a result is another input's */
async function survey(
  path: string,
  results: ResultFile,
  retriesFailed: boolean,
): Promise<{ total: number; done: number }> {
  let total = 0;
  let done = 0;
  for await (const { line, digest } of readInputs(path)) {
    total++;
    const known = results.known.get(line);
    if (known && known.input !== digest) {
      throw new CliFailure(`line ${line} of ${path} is not the one that its result was made of`, {
        exitCode: ExitCode.usage,
        hint: 'the inputs have changed: give another file with --output, or remove the results',
      });
    }
    if (isDone(known, retriesFailed)) done++;
  }
  return { total, done };
}

function report(session: Session, results: ResultFile, output: string | undefined): void {
  const all = [...results.known.values()];
  const failed = all.filter((result) => !isGood(result));
  const where = output === undefined ? '' : `; results in ${output}`;
  session.output.err.line(`${plural(all.length, 'input')}, ${failed.length} failed${where}`);
  if (failed.length === 0) return;
  session.exitCode = ExitCode.functionError;
  const [first] = failed;
  session.output.err.line(
    `line ${first?.line}: ${first?.state} (${first?.error}); see: skiff invocation show ${first?.id}`,
  );
}
