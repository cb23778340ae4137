/** Makes a thumbnail of the photo in the body. */
import sharp from 'sharp';
import type { FunctionContext } from 'skiff';

const WIDTH = Number(process.env['WIDTH'] ?? 200);

export default async (request: Request, context: FunctionContext): Promise<Response> => {
  const photo = Buffer.from(await request.arrayBuffer());
  const image = sharp(photo, { limitInputPixels: 50_000_000 });
  let format: string | undefined;
  try {
    ({ format } = await image.metadata());
  } catch {
    // 4xx says that trying again is of no use.
    return new Response('this is not a photo\n', { status: 415 });
  }
  const small = await image
    .rotate()
    .resize({ width: WIDTH, withoutEnlargement: true })
    .webp({ quality: 80 })
    .toBuffer();
  context.log.info('made', { format, from: photo.length, to: small.length });
  return new Response(new Uint8Array(small), { headers: { 'content-type': 'image/webp' } });
};
