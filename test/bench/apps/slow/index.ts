export default async (): Promise<Response> => {
  await new Promise((resolve) => setTimeout(resolve, 100));
  return new Response('slow');
};
