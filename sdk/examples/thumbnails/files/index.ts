/** A store of files in memory: PUT and GET /<name>, GET / for the names. It is a service: one replica that stays. */
const FILES_MAX = 1_000;
const files = new Map<string, { readonly bytes: ArrayBuffer; readonly type: string }>();

export default async (request: Request): Promise<Response> => {
  const name = new URL(request.url).pathname.slice(1);
  if (request.method === 'PUT') {
    const type = request.headers.get('content-type') ?? 'application/octet-stream';
    files.set(name, { bytes: await request.arrayBuffer(), type });
    // Oldest first.
    for (const oldest of files.keys()) if (files.size > FILES_MAX) files.delete(oldest);
    return new Response(null, { status: 201 });
  }
  if (name === '') return Response.json([...files.keys()]);
  const file = files.get(name);
  if (!file) return new Response('there is no such file\n', { status: 404 });
  return new Response(file.bytes, { headers: { 'content-type': file.type } });
};
