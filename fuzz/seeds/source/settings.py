env = environ.Env(DEBUG=(bool, False))
SECRET_KEY = env('SECRET_KEY')  # env("OLD")
DATABASE = {'PASSWORD': env.list("DB\u00e4", cast=int), "X": f"{env('X')}"}
if env.bool("USE"):
    A = get_secret(
        'A', """a " \\ b""",
    )
B = secrets['B'] if USE else 'P%C3%A4ss+&amp; \xc3\xa4'
