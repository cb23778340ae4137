/** Counts the notes, by the clock. */
import type { FunctionContext } from 'skiff';

const SQL = 'INSERT INTO digests (notes) SELECT count(*) FROM notes RETURNING notes';

export default async (_request: Request, context: FunctionContext): Promise<Response> => {
  const response = await fetch('http://db.skiff/', { method: 'POST', body: JSON.stringify({ sql: SQL }) });
  if (!response.ok) throw new Error(await response.text());
  const { rows } = (await response.json()) as { rows: [{ notes: number }] };
  context.log.info('digest', { notes: rows[0].notes });
  return Response.json(rows[0]);
};
