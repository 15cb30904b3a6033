from careflow_storage.migrate import *  # noqa: F403  # all of it has moved
