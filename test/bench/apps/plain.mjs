/** Without dependencies: deployed where no npm registry can be reached. */
export default () => new Response('hello\n');
