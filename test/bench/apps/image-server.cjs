const http = require('node:http');

http.createServer((_, response) => response.end('hello')).listen(Number(process.env.PORT));
