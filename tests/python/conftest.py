"""What all Python tests share: the marks."""


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes more than about ten seconds; leave out with -m 'not long'")
