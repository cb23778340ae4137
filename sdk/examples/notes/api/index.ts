/** Notes over HTTP: POST /notes, GET /notes, GET and DELETE /notes/<id>, GET /digests. */
import { Hono } from 'hono';

interface Answer {
  readonly rows: readonly Record<string, unknown>[];
  readonly changes: number;
  readonly id: number;
}

async function query(sql: string, ...values: (string | number)[]): Promise<Answer> {
  const response = await fetch('http://db.skiff/', { method: 'POST', body: JSON.stringify({ sql, values }) });
  if (!response.ok) throw new Error(`${sql}: ${await response.text()}`);
  return (await response.json()) as Answer;
}

const app = new Hono();

app.get('/notes', async (c) => c.json((await query('SELECT * FROM notes ORDER BY id')).rows));

app.post('/notes', async (c) => {
  const { text } = await c.req.json<{ text?: unknown }>();
  if (typeof text !== 'string' || text === '') return c.json({ error: 'a note has a text' }, 422);
  const { id } = await query('INSERT INTO notes (text) VALUES (?)', text);
  return c.json({ id, text }, 201);
});

app.get('/notes/:id{[0-9]+}', async (c) => {
  const [note] = (await query('SELECT * FROM notes WHERE id = ?', c.req.param('id'))).rows;
  return note ? c.json(note) : c.json({ error: 'there is no such note' }, 404);
});

app.delete('/notes/:id{[0-9]+}', async (c) => {
  const { changes } = await query('DELETE FROM notes WHERE id = ?', c.req.param('id'));
  return changes > 0 ? c.body(null, 204) : c.json({ error: 'there is no such note' }, 404);
});

app.get('/digests', async (c) => c.json((await query('SELECT * FROM digests ORDER BY id')).rows));

export default app;
