/** The smallest useful function: a web-standard Request comes in, a Response goes out. */
export default function hello(request: Request): Response {
  const name = new URL(request.url).searchParams.get('name') ?? 'world';
  return new Response(`Hello, ${name}! This is ${process.version} in a container of its own.\n`);
}
