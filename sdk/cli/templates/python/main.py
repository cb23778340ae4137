"""A function in Python: answers every request. ctx has the invocation's id, deadline and more."""


async def handler(request, ctx):
    print("called", request.path)
    if request.method == "POST":
        return {"length": len(await request.read())}
    return {"message": "Hello from Python!", "invocation": ctx.invocation_id}
