import { createServer } from 'node:http';

const server = createServer((request, response) => {
  console.log(request.method, request.url);
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ message: 'Hello from an image!', path: request.url }));
});
server.listen(Number(process.env.PORT ?? 8080));
process.once('SIGTERM', () => server.close());
